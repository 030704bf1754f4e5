"""waveform -> speech: silence is removed by the WebRTC voice activity detector (paper, section 3.1)."""

from dataclasses import dataclass

import numpy as np
import webrtcvad

from ser_tf.audio.checks import MINIMUM_SAMPLES
from ser_tf.config import SAMPLE_RATE_HZ, VadConfig
from ser_tf.errors import UserError

MAXIMUM_SPEECH_SECONDS = 60
INT16_SCALE = 32_768.0


@dataclass(frozen=True)
class Speech:
    """A waveform without its silence.

    Attributes:
        samples: int16 [N] at 16 kHz.
        kept_whole: the detector found too little speech, so nothing was removed.
    """

    samples: np.ndarray
    kept_whole: bool

    @property
    def waveform(self) -> np.ndarray:
        """The samples as float32 [N] in [-1, 1], with exactly the numbers of the training pipeline."""
        return self.samples.astype(np.float32) / np.float32(INT16_SCALE)


def remove_silence(waveform: np.ndarray, config: VadConfig, name: str = "recording") -> Speech:
    """Join the voiced frames of an utterance.

    Args:
        waveform: float32 [N] mono 16 kHz in [-1, 1].
        config: mode, frame length, padding and minimum speech.
        name: name of the recording in error messages.

    Returns:
        The voiced samples in order; all samples if the voiced ones last less than `minimum_speech_seconds`.

    Raises:
        UserError: more than 60 s of speech.
    """
    samples = as_int16(waveform)
    speech = samples[voiced_samples(samples, config)]
    least = max(config.minimum_speech_seconds * SAMPLE_RATE_HZ, MINIMUM_SAMPLES)
    kept_whole = len(speech) < least
    if kept_whole:
        speech = samples
    check_speech_length(len(speech), name)
    return Speech(speech, kept_whole)


def voiced(waveform: np.ndarray, config: VadConfig) -> np.ndarray:
    """Samples that the detector classifies as speech, bool [N], in a waveform float32 [N] mono 16 kHz in [-1, 1]."""
    return voiced_samples(as_int16(waveform), config)


def voiced_samples(samples: np.ndarray, config: VadConfig) -> np.ndarray:
    """Samples that the detector classifies as speech, bool [N], in samples int16 [N] at 16 kHz."""
    frame_samples = config.frame_samples()
    is_speech = _dilated(_decisions(samples, frame_samples, config.mode), config.padding_frames)
    return np.repeat(is_speech, frame_samples)[: len(samples)]


def check_speech_length(samples: int, name: str) -> None:
    """Refuse speech that is too long for one utterance.

    Raises:
        UserError: `samples` at 16 kHz last more than 60 s.
    """
    if samples > MAXIMUM_SPEECH_SECONDS * SAMPLE_RATE_HZ:
        raise UserError(
            f"{name}: expected at most {MAXIMUM_SPEECH_SECONDS} s of speech. "
            f"Received: {samples / SAMPLE_RATE_HZ:.1f} s; cut it into utterances"
        )


def as_int16(waveform: np.ndarray) -> np.ndarray:
    """The detector's input, int16 [N], from a waveform float32 [N] in [-1, 1]."""
    return np.clip(np.rint(waveform * INT16_SCALE), -32_768, 32_767).astype(np.int16)


def _decisions(samples: np.ndarray, frame_samples: int, mode: int) -> np.ndarray:
    """Whether each frame is speech, bool [frames]; the last one is filled up with zeros."""
    detector = webrtcvad.Vad(mode)  # it adapts to its input, so each utterance gets a new one
    frames = np.pad(samples, (0, -len(samples) % frame_samples)).reshape(-1, frame_samples)
    return np.array([detector.is_speech(frame.tobytes(), SAMPLE_RATE_HZ) for frame in frames])


def _dilated(is_speech: np.ndarray, frames: int) -> np.ndarray:
    """`is_speech` with `frames` more on each side of every voiced frame."""
    dilated = is_speech.copy()
    for shift in range(1, frames + 1):
        dilated[shift:] |= is_speech[:-shift]
        dilated[:-shift] |= is_speech[shift:]
    return dilated
