"""Noise for a waveform before silence removal: white, pink, and babble of other people's speech.

The signal-to-noise ratio is the mean square of the clean waveform over that of the noise. Both are taken over the
samples that the voice activity detector classifies as speech in the clean recording, so pauses do not count. Every draw
uses the given generator.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from ser_tf.config import SAMPLE_RATE_HZ

LOWEST_PINK_HZ = 20
"""Pink noise has equal power in each octave above this; lower octaves would be inaudible power."""

SMALLEST_LEVEL = 1e-9


def generator_of(*what: str | int) -> np.random.Generator:
    """A generator that depends only on these words and numbers, on every machine."""
    return np.random.default_rng(list(hashlib.sha256(json.dumps(what).encode()).digest()))


def white(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise with equal power in each hertz, float32 [samples]."""
    return generator.standard_normal(samples, np.float32)


def pink(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise with equal power in each octave from 20 Hz to 8 kHz, float32 [samples]."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    is_audible = hertz >= LOWEST_PINK_HZ
    shape = np.divide(1, np.sqrt(hertz), out=np.zeros_like(hertz), where=is_audible)
    return np.fft.irfft(spectrum * shape, samples).astype(np.float32)


def babble(talkers: Sequence[np.ndarray], samples: int, generator: np.random.Generator) -> np.ndarray:
    """Several people talking at once, equally loud.

    Args:
        talkers: the speech of each, float32 [N]; short speech repeats.
        samples: length of the noise.
        generator: draws where each talker starts.

    Returns:
        float32 [samples].
    """
    mixture = np.zeros(samples, np.float32)
    for speech in talkers:
        part = np.resize(np.roll(speech, -generator.integers(len(speech))), samples)
        mixture += part / np.float32(_level(part))
    return mixture


def scaled(noise: np.ndarray, waveform: np.ndarray, is_speech: np.ndarray, snr_db: float) -> np.ndarray:
    """The noise scaled to a signal-to-noise ratio.

    Args:
        noise: float32 [N].
        waveform: float32 [N], clean.
        is_speech: bool [N], the samples that the ratio refers to.
        snr_db: signal-to-noise ratio.

    Returns:
        float32 [N].
    """
    factor = _level(waveform[is_speech]) / _level(noise[is_speech]) * 10 ** (-snr_db / 20)
    return noise * np.float32(factor)


def mixed(waveform: np.ndarray, noise: np.ndarray, where: slice) -> np.ndarray:
    """The waveform with noise over part of it, clipped at full scale like a recording.

    Args:
        waveform: float32 [N] in [-1, 1].
        noise: float32 [N], scaled.
        where: the part with noise.

    Returns:
        float32 [N] in [-1, 1].
    """
    mixture = waveform.copy()
    mixture[where] = np.clip(mixture[where] + noise[where], -1, 1)
    return mixture


def half(is_speech: np.ndarray, generator: np.random.Generator) -> slice:
    """The first or second half of an utterance, drawn at random; each holds half of the speech.

    Args:
        is_speech: bool [N].
        generator: draws the half.
    """
    spoken = np.cumsum(is_speech)
    middle = int(np.searchsorted(spoken, spoken[-1] / 2)) + 1
    return slice(0, middle) if generator.random() < 0.5 else slice(middle, len(is_speech))


def _level(samples: np.ndarray) -> float:
    """Root mean square, above 0 also for silence, so that silence divided by it stays silent."""
    return max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), SMALLEST_LEVEL)
