import numpy as np
import pytest

from ser_tf.audio import vad
from ser_tf.audio.vad import Speech, remove_silence, voiced
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import VadConfig
from ser_tf.errors import UserError

FRAME = 480  # samples of 30 ms at 16 kHz


class LoudIsSpeech:
    """A detector whose answers are obvious."""

    def __init__(self, mode: int):
        pass

    def is_speech(self, frame: bytes, rate_hz: int) -> bool:
        assert rate_hz == 16_000
        return bool(np.abs(np.frombuffer(frame, np.int16)).max() > 16_000)


@pytest.fixture
def loud_is_speech(monkeypatch):
    monkeypatch.setattr(vad.webrtcvad, "Vad", LoudIsSpeech)


def frames(pattern: str) -> np.ndarray:
    """A waveform of one frame per letter: "x" loud, "." quiet; each sample encodes its position."""
    level = np.repeat([0.5 if letter == "x" else 0.0 for letter in pattern], FRAME)
    return (level + np.arange(len(level)) / 2**15).astype(np.float32)


def buzz(rng, seconds: float) -> np.ndarray:
    """Harmonics of 120 Hz with a little noise: voiced for WebRTC."""
    time = np.arange(round(16_000 * seconds)) / 16_000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 30))
    return (0.2 * voice + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.mark.parametrize(
    ("pattern", "padding_frames", "kept"),
    [
        ("..xx..x.", 0, [2, 3, 6]),
        ("..xx..x.", 1, [1, 2, 3, 4, 5, 6, 7]),
        ("x.....x", 2, [0, 1, 2, 4, 5, 6]),
        ("..x..", 9, [0, 1, 2, 3, 4]),
    ],
)
def test_voiced_frames_are_joined_and_padded(loud_is_speech, pattern, padding_frames, kept):
    waveform = frames(pattern)
    speech = remove_silence(waveform, VadConfig(padding_frames=padding_frames, minimum_speech_seconds=0.03))
    expected = np.concatenate([waveform[FRAME * i : FRAME * (i + 1)] for i in kept])
    assert not speech.kept_whole
    np.testing.assert_array_equal(speech.waveform, expected)


def test_voiced_marks_each_sample_of_a_voiced_frame(loud_is_speech):
    waveform = frames(".x.x")[:-100]
    expected = np.concatenate([np.zeros(FRAME), np.ones(FRAME), np.zeros(FRAME), np.ones(FRAME - 100)])
    np.testing.assert_array_equal(voiced(waveform, VadConfig()), expected.astype(bool))


def test_of_the_last_partial_frame_only_true_samples_are_kept(loud_is_speech):
    waveform = frames("..xx")[:-100]
    speech = remove_silence(waveform, VadConfig(minimum_speech_seconds=0.03))
    np.testing.assert_array_equal(speech.waveform, waveform[2 * FRAME :])


@pytest.mark.parametrize(("voiced", "kept_whole"), [(16, True), (17, False)])
def test_with_less_speech_than_the_minimum_the_whole_is_kept(loud_is_speech, voiced, kept_whole):
    # 0.5 s are 8000 samples: 16 frames have 7680, 17 have 8160.
    waveform = frames("." * 10 + "x" * voiced)
    speech = remove_silence(waveform, VadConfig())
    assert speech.kept_whole == kept_whole
    assert len(speech.samples) == (len(waveform) if kept_whole else voiced * FRAME)


def test_without_a_minimum_one_analysis_window_remains(loud_is_speech):
    # One frame of 480 samples is less than a window of 512.
    speech = remove_silence(frames("..x."), VadConfig(minimum_speech_seconds=0))
    assert speech.kept_whole


def test_speech_is_exact_in_16_bit(loud_is_speech):
    steps = np.arange(-32_768, 32_768, 5)
    speech = remove_silence((steps / 2**15).astype(np.float32), VadConfig(minimum_speech_seconds=1000))
    np.testing.assert_array_equal(speech.samples, steps)
    np.testing.assert_array_equal(speech.waveform, (steps / 2**15).astype(np.float32))


def test_full_scale_does_not_wrap_around():
    speech = remove_silence(np.tile(np.float32([1, -1]), 400), VadConfig())
    assert set(speech.samples.tolist()) == {32_767, -32_768}


def test_webrtc_finds_the_voice_between_silences(rng):
    silence = 1e-4 * rng.standard_normal(16_000).astype(np.float32)
    speech = remove_silence(np.concatenate([silence, buzz(rng, 2), silence]), VadConfig())
    # Two seconds of voice, at most one frame lost at the start, and a hangover of some frames at the end.
    assert 1.97 <= len(speech.samples) / 16_000 <= 2.4
    assert not speech.kept_whole


def test_an_utterance_does_not_depend_on_the_one_before(rng):
    waveform = np.concatenate([1e-3 * rng.standard_normal(8_000), buzz(rng, 1)]).astype(np.float32)
    before = remove_silence(waveform, VadConfig())
    remove_silence(0.3 * rng.standard_normal(32_000).astype(np.float32), VadConfig())
    np.testing.assert_array_equal(remove_silence(waveform, VadConfig()).samples, before.samples)


def test_more_than_60_s_of_speech_is_refused(loud_is_speech):
    limit = np.full(60 * 16_000, 0.5, np.float32)
    assert len(remove_silence(limit, VadConfig()).samples) == 60 * 16_000
    with pytest.raises(UserError, match=r"^clip.wav: expected at most 60 s of speech. Received: 60.1 s; cut it into"):
        remove_silence(np.full(961_600, 0.5, np.float32), VadConfig(), "clip.wav")


def test_real_speech_gets_shorter_and_keeps_its_loudest_part(shared_data):
    waveform = read_waveform(sorted((shared_data / "ravdess").rglob("*.flac"))[0])
    speech = remove_silence(waveform, VadConfig())
    assert isinstance(speech, Speech)
    assert 0.5 * 16_000 <= len(speech.samples) < 0.8 * len(waveform)
    assert np.abs(speech.waveform).max() == np.abs(waveform).max()
