import numpy as np
import pytest
import tensorflow as tf
import webrtcvad

from ser_tf.audio import vad, vad_background, vad_filters, vad_loudness
from ser_tf.audio.vad_graph import remove_silence_in_graph, voiced_frames
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import VadConfig

SAMPLES = 24_000  # 1.5 s: 50 frames of 30 ms, 150 of 10 ms
LOUDEST = 2**15


@pytest.fixture
def sounds(rng) -> dict[str, np.ndarray]:
    """Waveforms int16 [24000] that reach the edge cases of the detector."""
    time = np.arange(SAMPLES) / 16_000
    noise = rng.standard_normal(SAMPLES)
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    is_on = (time % 0.7) > 0.35
    extremes = rng.choice([-LOUDEST, LOUDEST - 1], SAMPLES)
    sounds = {
        "digital silence": np.zeros(SAMPLES),
        "too quiet to teach": rng.integers(-1, 2, SAMPLES),
        "quiet noise": 20 * noise,
        "loud noise": 6000 * noise,
        "voice in bursts": 6000 * voice * is_on + 30 * noise,
        "voice between digital silences": 6000 * voice * is_on,
        "clipped voice": 1e6 * voice * is_on,
        "tones": 8000 * np.sin(2 * np.pi * (100 + 1000 * time) * time),
        "a click": LOUDEST * (np.arange(SAMPLES) == 9000),
        "extremes": extremes,
        "extremes at the rate that rings most": np.where(np.arange(SAMPLES) // 2 % 2, -LOUDEST, LOUDEST - 1),
        "all at the lowest": np.full(SAMPLES, -LOUDEST),
    }
    return {name: np.clip(np.rint(values), -LOUDEST, LOUDEST - 1).astype(np.int16) for name, values in sounds.items()}


def webrtc(samples: np.ndarray, config: VadConfig) -> list[bool]:
    """The decisions on the whole frames."""
    frame = 16 * config.frame_milliseconds
    detector = webrtcvad.Vad(config.mode)
    starts = range(0, len(samples) - frame + 1, frame)
    return [detector.is_speech(samples[start : start + frame].tobytes(), 16_000) for start in starts]


def wrapped(number: int, bits: int = 16) -> int:
    return (number + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def decimated(samples: list[int]) -> list[int]:
    """The pair of all-pass filters sample by sample, as in WebRTC.s source."""
    states, outputs = [0, 0], []
    for number in range(0, len(samples), 2):
        both = 0
        for branch, coefficient in enumerate((5243, 1392)):
            sample = samples[number + branch]
            output = wrapped((states[branch] >> 1) + (coefficient * sample >> 14))
            states[branch] = sample - (coefficient * output >> 12)
            both += output
        outputs.append(wrapped(both))
    return outputs


def split(samples: list[int], frame_samples: int) -> tuple[list[int], list[int]]:
    """Lower and upper half; states of 32 bits, of which 16 outlive a frame."""
    states, low, high = [0, 0], [], []
    for number in range(0, len(samples), 2):
        if number % frame_samples == 0:
            states = [state >> 16 << 16 for state in states]
        outputs = []
        for branch, coefficient in enumerate((20_972, 5571)):
            sample = samples[number + branch]
            outputs.append(wrapped(states[branch] + coefficient * sample, 32) >> 16)
            states[branch] = wrapped(2 * ((sample << 14) - coefficient * outputs[-1]), 32)
        low.append(wrapped(outputs[0] + outputs[1]))
        high.append(wrapped(outputs[0] - outputs[1]))
    return low, high


def high_passed(samples: list[int]) -> list[int]:
    padded, outputs = [0, 0, *samples], [0, 0]
    for number in range(len(samples)):
        zeros = 6631 * padded[number + 2] - 13_262 * padded[number + 1] + 6631 * padded[number]
        outputs.append(wrapped((zeros + 7756 * outputs[-1] - 5620 * outputs[-2]) >> 14))
    return outputs[2:]


@pytest.mark.parametrize("most_passes", [vad_filters.MOST_PASSES, 1])
def test_parallel_filters_equal_sequential_ones(sounds, monkeypatch, most_passes):
    monkeypatch.setattr(vad_filters, "MOST_PASSES", most_passes)  # after one, hardly a piece starts where it should
    samples = np.stack(list(sounds.values()))[:, :9600]  # 20 frames of 30 ms
    narrow = vad_filters.decimated(tf.constant(samples, tf.int32))
    bands = vad_filters.bands_of(narrow, VadConfig())
    for row, name in enumerate(sounds):
        expected = decimated(samples[row].tolist())
        assert narrow[0, row].numpy().tolist() == expected, name
        low, high = split(expected, 240)
        (lower, band_3), (band_4, band_5) = split(low, 120), split(high, 120)
        lower, band_2 = split(lower, 60)
        lower, band_1 = split(lower, 30)
        for band, wanted in zip(bands, (high_passed(lower), band_1, band_2, band_3, band_4, band_5), strict=True):
            assert band[0, row].numpy().tolist() == wanted, name


def test_loudness_is_in_sixteenths_of_a_decibel():
    # Amplitudes 2 ** k in frames of 60 samples: energy 60 * 4 ** k, 160 log10(60 * 4 ** k) = 284.5 + 96.3 k. The
    # logarithm's fraction is a straight line, at most 0.086 octaves = 4.2 too low; two roundings cost less than 2.
    exponents = np.arange(15)
    band = np.repeat(2**exponents, 60)[None].astype(np.int32)
    loudness, energy = vad_loudness._band_loudness(tf.constant(band), 60)
    difference = 160 * np.log10(60.0 * 4.0**exponents) - loudness[0].numpy()
    assert (difference >= 0).all()
    assert (difference < 4.2 + 2).all()
    assert energy[0, 0] > vad_loudness.LEAST_ENERGY


@pytest.mark.parametrize(("ones", "is_sound"), [(10, False), (11, True)])
def test_an_energy_of_more_than_ten_is_a_sound(ones, is_sound):
    bands = [np.zeros((1, 1, samples), np.int32) for samples in (15, 15, 30, 60, 60, 60)]  # one frame of 30 ms
    bands[3][..., :ones] = 1
    _, sound = vad_loudness.loudness_of([tf.constant(band) for band in bands], VadConfig())
    assert sound.numpy().tolist() == [[is_sound]]


def test_the_background_is_the_third_lowest_of_100_frames():
    loudness = np.full((150, 1, 6), 500, np.int32)
    loudness[5:8] = np.reshape(
        [300, 310, 320], [3, 1, 1]
    )  # 320 is the third lowest in frames 7 to 104, then 300 is forgotten
    loudness = tf.constant(loudness)
    background = vad_background.background_of(loudness, tf.ones([150, 1], tf.bool))[:, 0, 0].numpy()
    assert background[0] == 1600
    # Each frame keeps 0.2 of the distance to a lower value: 1600, 0.2 * 1100 + 500 = 720, 544, 509, 502 ...
    np.testing.assert_allclose(background[1:5], [720, 544, 509, 502], atol=1)
    np.testing.assert_allclose(background[20:105], 320, atol=1)
    # ... and 0.99 of that to a higher one, here 500: 320 + 0.01 * 180 = 321.8, 323.6 ...
    np.testing.assert_allclose(background[105:108], [321.8, 323.6, 325.3], atol=1)


def test_what_follows_a_forgotten_value_is_passed_over():
    # 1, 2 and 3 come in consecutive frames and lie side by side. When 1 is forgotten, 2 grows no older, so that 2 and 3
    # are old in the same frame; then 2 is forgotten and 3 passed over, and a frame later 3 is forgotten.
    memory = vad_background._Memory(
        tf.fill([1, 6, 16], 10_000), tf.zeros([1, 6, 16], tf.int32), tf.zeros([1, 6], tf.int32)
    )
    alive = []
    for frame in range(105):
        loudness = tf.fill([1, 6], frame + 1 if frame < 3 else 20_000)
        memory = vad_background._Memory(*vad_background._remember(memory, loudness), memory.background)
        alive.append([value for value in memory.values[0, 0].numpy().tolist() if value < 10_000])
    assert alive[:4] == [[1], [1, 2], [1, 2, 3], [1, 2, 3]]
    assert alive[99:105] == [[1, 2, 3], [2, 3], [2, 3], [3], [], []]


@pytest.mark.parametrize("frame_milliseconds", [10, 20, 30])
@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_decisions_are_those_of_webrtc(sounds, mode, frame_milliseconds):
    config = VadConfig(mode=mode, frame_milliseconds=frame_milliseconds)
    samples = np.stack(list(sounds.values()))
    decisions = voiced_frames(tf.constant(samples), tf.fill([len(samples)], SAMPLES), config).numpy()
    expected = {name: webrtc(row, config) for name, row in sounds.items()}
    assert dict(zip(sounds, decisions.tolist(), strict=True)) == expected
    assert any(expected["voice in bursts"])
    assert not all(expected["voice in bursts"])


def test_a_shape_may_be_known_when_the_graph_is_built(sounds):
    config = VadConfig()
    samples = np.stack([sounds["voice in bursts"], sounds["extremes"]])
    decide = tf.function(lambda samples, lengths: voiced_frames(samples, lengths, config))
    frames = decide(tf.constant(samples), tf.fill([2], SAMPLES)).numpy()
    assert frames.tolist() == [webrtc(each, config) for each in samples]


@pytest.fixture(scope="module")
def in_graph():
    """`remove_silence` with the default configuration, as exported."""
    signature = [tf.TensorSpec([None, None], tf.int16), tf.TensorSpec([None], tf.int32)]
    return tf.function(lambda *batch: remove_silence_in_graph(*batch, VadConfig()), input_signature=signature)


def same_speech(samples: np.ndarray, config: VadConfig, speech: np.ndarray, length: int, kept_whole: bool) -> bool:
    expected = vad.remove_silence(samples / np.float32(2**15), config)
    return np.array_equal(speech[:length], expected.samples) and bool(kept_whole) == expected.kept_whole


def test_a_row_does_not_depend_on_the_batch(in_graph, sounds, rng):
    rows = list(sounds.values())
    lengths = [SAMPLES - 977 * number for number in range(len(rows))]
    batch = rng.integers(-LOUDEST, LOUDEST, (len(rows), SAMPLES)).astype(np.int16)  # padding is noise
    for filled, row, length in zip(batch, rows, lengths, strict=True):
        filled[:length] = row[:length]
    speech, speech_lengths, kept_whole = (each.numpy() for each in in_graph(batch, lengths))
    assert {True, False} == set(kept_whole.tolist())
    for number, name in enumerate(sounds):
        alone = in_graph(rows[number][None, : lengths[number]], lengths[number : number + 1])
        assert alone[0][0].numpy().tolist() == speech[number, : speech_lengths[number]].tolist(), name
        assert not speech[number, speech_lengths[number] :].any()
        samples = rows[number][: lengths[number]]
        assert same_speech(samples, VadConfig(), speech[number], speech_lengths[number], kept_whole[number]), name
    assert in_graph.experimental_get_tracing_count() == 1


@pytest.fixture
def after_a_burst(rng) -> dict[str, np.ndarray]:
    """Silence as converters may write it, int16 [24000], after a third of noise."""
    number = np.arange(SAMPLES)
    silences = {"-1": -np.ones(SAMPLES), "7": np.full(SAMPLES, 7), "0 and 1 by turns of two": number // 2 % 2}
    burst = 6000 * rng.standard_normal(SAMPLES)
    return {
        name: np.rint(np.where(number < SAMPLES // 3, burst, silence)).astype(np.int16)
        for name, silence in silences.items()
    }


def test_constant_silence_gives_the_same_speech(in_graph, after_a_burst):
    for name, samples in after_a_burst.items():
        results = in_graph(samples[None], [SAMPLES])
        assert same_speech(samples, VadConfig(), *(each.numpy()[0] for each in results)), name


@pytest.mark.parametrize("silence", ["-1", "7"])
def test_a_constant_signal_needs_few_passes(after_a_burst, monkeypatch, silence):
    further, passes = vad_filters._further, []

    def counted(*arguments):
        passes.append(arguments)
        return further(*arguments)

    monkeypatch.setattr(vad_filters, "_further", counted)
    vad_filters.decimated(tf.constant(after_a_burst[silence][None], tf.int32))
    assert len(passes) < 10  # and the silence has 400 pieces


@pytest.mark.parametrize("samples", [0, 1, 479, 480, 481])
def test_hardly_a_frame(in_graph, rng, samples):
    waveform = rng.integers(-9000, 9000, (1, samples)).astype(np.int16)
    speech, lengths, kept_whole = in_graph(waveform, [samples])
    np.testing.assert_array_equal(speech, waveform)
    assert lengths.numpy() == samples
    assert kept_whole.numpy()
    assert voiced_frames(tf.constant(waveform), tf.constant([samples]), VadConfig()).shape == (1, samples // 480)


def test_frames_beyond_a_length_are_not_speech(sounds):
    samples = tf.constant(np.stack([sounds["loud noise"]] * 3))
    whole, shorter, none = voiced_frames(samples, tf.constant([SAMPLES, 20 * 480 + 479, 0]), VadConfig()).numpy()
    assert shorter[:20].tolist() == whole[:20].tolist()
    assert not shorter[20:].any()
    assert not none.any()


@pytest.mark.parametrize(
    "config",
    [
        VadConfig(padding_frames=1, minimum_speech_seconds=0),
        VadConfig(padding_frames=3, frame_milliseconds=10, mode=3),
        VadConfig(padding_frames=60),
        VadConfig(minimum_speech_seconds=1000),
    ],
)
def test_padding_and_minimum_speech_match_the_live_line(sounds, config):
    rows = [sounds["voice in bursts"][:-100], sounds["a click"][:-100]]
    results = remove_silence_in_graph(tf.constant(np.stack(rows)), tf.fill([2], SAMPLES - 100), config)
    for samples, *result in zip(rows, *(each.numpy() for each in results), strict=True):
        assert same_speech(samples, config, *result)


def test_real_speech_matches_the_live_line(in_graph, shared_data):
    for path in sorted((shared_data / "ravdess").rglob("*.flac"))[::240]:
        waveform = read_waveform(path)
        samples = vad.as_int16(waveform)
        results = in_graph(samples[None], [len(samples)])
        assert same_speech(samples, VadConfig(), *(each.numpy()[0] for each in results)), path.name
