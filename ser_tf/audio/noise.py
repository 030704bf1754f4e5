"""Noise to mix into a waveform before its silence is removed: white, pink, and the babble of other people's speech.

The signal-to-noise ratio is the mean square of the clean waveform over that of the noise, both over the samples that
the voice activity detector takes for speech in the clean recording, so that pauses do not make a recording quieter than
its speech is. Every draw comes from the generator that is given.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from ser_tf.config import SAMPLE_RATE_HZ

LOWEST_PINK_HZ = 20
"""Pink noise has equal power in each octave, and from here on alone: lower octaves would be power that nobody hears."""

SMALLEST_LEVEL = 1e-9


def generator_of(*what: str | int) -> np.random.Generator:
    """A generator that depends on these words and numbers alone, on every machine."""
    return np.random.default_rng(list(hashlib.sha256(json.dumps(what).encode()).digest()))


def white(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise of equal power in each hertz, float32 [samples]."""
    return generator.standard_normal(samples, np.float32)


def pink(samples: int, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise of equal power in each octave from 20 Hz to 8 kHz, float32 [samples]."""
    spectrum = np.fft.rfft(generator.standard_normal(samples))
    hertz = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ)
    heard = hertz >= LOWEST_PINK_HZ
    shape = np.divide(1, np.sqrt(hertz), out=np.zeros_like(hertz), where=heard)
    return np.fft.irfft(spectrum * shape, samples).astype(np.float32)


def babble(talkers: Sequence[np.ndarray], samples: int, generator: np.random.Generator) -> np.ndarray:
    """Several people who talk at once, each as loud as the others.

    Args:
        talkers: the speech of each, float32 [N]; what is too short starts again from its beginning.
        samples: length of the noise.
        generator: draws where each talker is when the noise begins.

    Returns:
        float32 [samples].
    """
    mixture = np.zeros(samples, np.float32)
    for speech in talkers:
        heard = np.resize(np.roll(speech, -generator.integers(len(speech))), samples)
        mixture += heard / np.float32(_level(heard))
    return mixture


def scaled(noise: np.ndarray, waveform: np.ndarray, is_speech: np.ndarray, snr_db: float) -> np.ndarray:
    """The noise as loud as the ratio wants it.

    Args:
        noise: float32 [N].
        waveform: float32 [N], clean.
        is_speech: bool [N], over which samples the ratio is taken.
        snr_db: signal-to-noise ratio.

    Returns:
        float32 [N].
    """
    factor = _level(waveform[is_speech]) / _level(noise[is_speech]) * 10 ** (-snr_db / 20)
    return noise * np.float32(factor)


def mixed(waveform: np.ndarray, noise: np.ndarray, where: slice) -> np.ndarray:
    """The waveform with noise over a stretch of it, cut at full scale like a recording; the rest stays as it is.

    Args:
        waveform: float32 [N] in [-1, 1].
        noise: float32 [N], as loud as it is to be.
        where: the stretch.

    Returns:
        float32 [N] in [-1, 1].
    """
    mixture = waveform.copy()
    mixture[where] = np.clip(mixture[where] + noise[where], -1, 1)
    return mixture


def half(is_speech: np.ndarray, generator: np.random.Generator) -> slice:
    """The first or the second half of an utterance, drawn at random; each holds half of the speech.

    Args:
        is_speech: bool [N].
        generator: draws which.
    """
    spoken = np.cumsum(is_speech)
    middle = int(np.searchsorted(spoken, spoken[-1] / 2)) + 1
    return slice(0, middle) if generator.random() < 0.5 else slice(middle, len(is_speech))


def _level(samples: np.ndarray) -> float:
    """Root of the mean square; above 0 also of silence, so that silence stays what it is when it is divided by it."""
    return max(float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), SMALLEST_LEVEL)
