import numpy as np
import pytest
import soundfile

from ser_tf.audio.recording import decoder_of, sample_hash, speech_key, speech_of
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config, VadConfig


@pytest.fixture
def samples(rng):
    """One second of noise in 16 bit at 44.1 kHz."""
    return (3000 * rng.standard_normal(44_100)).astype(np.int16)


def hash_of(path) -> int:
    return sample_hash(read_waveform(path))


def test_the_same_samples_in_a_different_format_have_the_same_hash(samples, tmp_path):
    paths = [tmp_path / name for name in ("a.wav", "b.flac", "c.wav")]
    soundfile.write(paths[0], samples, 44_100)
    soundfile.write(paths[1], samples, 44_100)
    soundfile.write(paths[2], np.stack([samples, samples], axis=1), 44_100, subtype="PCM_24")
    assert len({hash_of(path) for path in paths}) == 1


def test_a_copy_resampled_here_has_the_hash_of_its_original(samples, tmp_path):
    soundfile.write(tmp_path / "a.wav", samples, 44_100)
    soundfile.write(tmp_path / "b.flac", read_waveform(tmp_path / "a.wav"), 16_000, subtype="PCM_16")
    assert hash_of(tmp_path / "a.wav") == hash_of(tmp_path / "b.flac")


def test_a_changed_sample_silence_and_a_lossy_copy_change_the_hash(samples, tmp_path):
    other = samples.copy()
    other[20_000] += 200  # resampled, 200 steps of one sample among 44100 are still several of 16000
    for name, content in (
        ("a.wav", samples),
        ("b.wav", other),
        ("c.wav", np.pad(samples, (0, 441))),
        ("d.ogg", samples / 2**15),
    ):
        soundfile.write(tmp_path / name, content, 44_100)
    assert len({hash_of(path) for path in tmp_path.iterdir()}) == 4


def test_the_hash_is_of_64_bits_and_does_not_change():
    # BLAKE2b with a digest of 8 bytes over the int16 samples 0, 1, -1, 0 as little endian.
    import hashlib

    expected = hashlib.blake2b(b"\x00\x00\x01\x00\xff\xff\x00\x00", digest_size=8).hexdigest()
    waveform = np.array([0.1, 1.2, -0.6, -0.4], np.float32) / 2**15  # rounds to 0, 1, -1, 0
    assert f"{sample_hash(waveform):016x}" == expected


def test_the_speech_equals_that_of_the_line(samples, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 44_100)
    recording = speech_of(path.read_bytes(), "a", Config(), decoder_of(Config()))
    waveform = read_waveform(path)
    expected = remove_silence(waveform, VadConfig())
    np.testing.assert_array_equal(recording.speech.samples, expected.samples)
    assert recording.sample_hash == sample_hash(waveform)
    assert recording.seconds == 1.0


def test_the_key_tells_silence_removal_apart_and_nothing_behind_it():
    assert speech_key(Config()) == speech_key(Config(network=Config().network))
    assert speech_key(Config()) != speech_key(Config(vad=VadConfig(mode=3)))
