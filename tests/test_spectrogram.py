import itertools

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SpectrogramConfig

COMPRESSIONS = ("none", "power", "log")
NORMALISATIONS = ("global", "per_bin", "per_frame")
CONFIGS = [
    SpectrogramConfig(compression=compression, normalisation=normalisation)
    for compression, normalisation in itertools.product(COMPRESSIONS, NORMALISATIONS)
]

EXTENDED = [
    SpectrogramConfig(framing="centred"),
    SpectrogramConfig(reversal="appended"),
    SpectrogramConfig(window_samples=400, window="hann", framing="centred", reversal="appended"),
    SpectrogramConfig(window_samples=401, framing="centred"),  # 4000 samples are a whole number of hops
]


def name_of(config: SpectrogramConfig) -> str:
    return f"{config.compression}-{config.normalisation}-{config.framing}-{config.reversal}-{config.window_samples}"


def of_one(speech: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    values, frames = spectrogram(tf.constant(speech[None], tf.float32), tf.constant([len(speech)]), config)
    assert frames.numpy().tolist() == [values.shape[1]]
    return values.numpy()[0]


def by_loop(speech: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """Frame by frame in float64, from the definitions."""
    n = np.arange(512)
    window = 0.54 - 0.46 * np.cos(2 * np.pi * n / 512)  # periodic Hamming
    magnitude = np.stack(
        [np.abs(np.fft.rfft(window * speech[start : start + 512])) for start in range(0, len(speech) - 511, 160)]
    )
    values = {"none": magnitude, "power": magnitude**0.3, "log": np.log(magnitude + 1e-3)}[config.compression]
    axis = {"global": None, "per_bin": 0, "per_frame": 1}[config.normalisation]
    return (values - values.mean(axis, keepdims=True)) / values.std(axis, keepdims=True)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_equals_a_loop_over_frames(config, rng):
    speech = 0.1 * rng.standard_normal(8_000)
    np.testing.assert_allclose(of_one(speech, config), by_loop(speech, config), atol=2e-4)


def test_equals_scipy(rng):
    speech = 0.1 * rng.standard_normal(16_000)
    transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hamming", 512), hop=160, fs=16_000, mfft=512)
    # scipy centres its slice p on sample 160 p: shifted by half a window it starts there, as ours does.
    magnitude = np.abs(transform.stft(speech, p0=0, p1=97, k_offset=256)).T
    expected = (magnitude - magnitude.mean()) / magnitude.std()
    np.testing.assert_allclose(of_one(speech, SpectrogramConfig()), expected, atol=1e-4)


def test_a_hann_window_shorter_than_the_transform_equals_scipy(rng):
    speech = 0.1 * rng.standard_normal(16_000)
    transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hann", 400), hop=160, fs=16_000, mfft=512)
    magnitude = np.abs(transform.stft(speech, p0=0, p1=98, k_offset=200)).T  # 1 + (16000 - 400) // 160 = 98
    expected = (magnitude - magnitude.mean()) / magnitude.std()
    config = SpectrogramConfig(window_samples=400, window="hann")
    np.testing.assert_allclose(of_one(speech, config), expected, atol=1e-4)


@pytest.mark.parametrize("samples", [513, 4_000, 4_159])
def test_centred_frames_are_those_of_speech_mirrored_at_its_ends(samples, rng):
    speech = 0.1 * rng.standard_normal(samples)
    centred = of_one(speech, SpectrogramConfig(framing="centred"))
    assert len(centred) == 1 + samples // 160
    np.testing.assert_allclose(centred, of_one(np.pad(speech, 256, mode="reflect"), SpectrogramConfig()), atol=1e-5)


@pytest.mark.parametrize("framing", ["inside", "centred"])
def test_an_appended_reversal_is_speech_followed_by_itself_backwards(framing, rng):
    speech = 0.1 * rng.standard_normal(3_333)
    np.testing.assert_allclose(
        of_one(speech, SpectrogramConfig(framing=framing, reversal="appended")),
        of_one(np.append(speech, speech[::-1]), SpectrogramConfig(framing=framing)),
        atol=1e-5,
    )


@pytest.mark.parametrize("config", CONFIGS + EXTENDED, ids=name_of)
def test_the_portable_operations_give_the_same(config, rng):
    speech = tf.constant(0.1 * rng.standard_normal((2, 8000)), tf.float32)
    expected, frames = spectrogram(speech, tf.constant([8000, 5000]), config)
    found, same_frames = spectrogram(speech, tf.constant([8000, 5000]), config, portable=True)
    np.testing.assert_array_equal(same_frames, frames)
    np.testing.assert_allclose(found, expected, atol=2e-4)  # as far as float32 is from the loop in float64


def test_the_deviation_is_raised_by_the_offset(rng):
    # The offset is as large as the deviation itself, so the values are halved.
    speech = 0.1 * rng.standard_normal(4_000)
    frames = np.lib.stride_tricks.sliding_window_view(speech, 512)[::160]
    deviation = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hamming", 512))).std()
    offset = of_one(speech, SpectrogramConfig(deviation_offset=float(deviation)))
    np.testing.assert_allclose(2 * offset, of_one(speech, SpectrogramConfig()), atol=1e-4)


def test_a_tone_is_in_its_bin():
    # Bins are 16000 / 512 = 31.25 Hz apart: 1 kHz is bin 32.
    speech = 0.5 * np.sin(2 * np.pi * 1_000 * np.arange(16_000) / 16_000)
    assert set(of_one(speech, SpectrogramConfig()).argmax(axis=1)) == {32}


@pytest.mark.parametrize(
    ("samples", "frames"), [(511, 0), (512, 1), (671, 1), (672, 2), (16_000, 97)]
)  # 1 + (16000 - 512) // 160 = 1 + 96
def test_only_whole_frames_count(samples, frames):
    values, counted = spectrogram(tf.ones([1, 16_000]), tf.constant([samples]), SpectrogramConfig())
    assert values.shape == (1, 97, 257)
    assert counted.numpy().tolist() == [frames]
    assert not values.numpy()[0, frames:].any()


@pytest.mark.parametrize("config", [*CONFIGS, *EXTENDED], ids=name_of)
def test_padding_changes_nothing(config, rng):
    lengths = [512, 700, 4_000, 4_159, 6_000]
    batch = rng.uniform(-1, 1, (len(lengths), 6_500)).astype(np.float32)  # padding is loud noise, not zeros
    batch[0, lengths[0] :] = np.nan
    values, frames = spectrogram(tf.constant(batch), tf.constant(lengths), config)
    for row, length in enumerate(lengths):
        alone = of_one(batch[row, :length], config)
        assert frames[row] == len(alone)
        np.testing.assert_allclose(values[row, : len(alone)], alone, atol=1e-5)
        assert not values.numpy()[row, len(alone) :].any()


@pytest.mark.parametrize(("normalisation", "axis"), [("global", (0, 1)), ("per_bin", 0), ("per_frame", 1)])
def test_mean_is_zero_and_deviation_one_along_the_axis(normalisation, axis, rng):
    values = of_one(0.1 * rng.standard_normal(8_000), SpectrogramConfig(normalisation=normalisation))
    np.testing.assert_allclose(values.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(values.std(axis), 1, atol=1e-4)


@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_loudness_does_not_matter_without_a_floor(normalisation, rng):
    speech = 0.5 * rng.standard_normal(4_000)
    config = SpectrogramConfig(normalisation=normalisation)
    np.testing.assert_allclose(of_one(0.001 * speech, config), of_one(speech, config), atol=1e-3)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_constant_values_become_zero(config):
    assert not of_one(np.zeros(4_000), config).any()


def test_the_graph_and_an_export_give_the_same(tmp_path, rng):
    config = SpectrogramConfig(compression="log", normalisation="per_bin")

    class Exported(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None]), tf.TensorSpec([None], tf.int32)])
        def __call__(self, speech, samples):
            return spectrogram(speech, samples, config)

    speech, samples = tf.constant(rng.uniform(-1, 1, (2, 3_000)), tf.float32), tf.constant([3_000, 1_000])
    expected, expected_frames = spectrogram(speech, samples, config)
    tf.saved_model.save(Exported(), str(tmp_path))
    values, frames = tf.saved_model.load(str(tmp_path))(speech, samples)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_array_equal(frames, expected_frames)


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_real_speech_equals_the_loop(config, shared_data):
    speech = read_waveform(sorted((shared_data / "ravdess").rglob("*.flac"))[0])[16_000:24_000]
    np.testing.assert_allclose(of_one(speech, config), by_loop(speech.astype(np.float64), config), atol=1e-3)
