"""Loudness and background -> speech or not: the adaptive Gaussian mixtures of WebRTC's detector."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from ser_tf.audio.fixed_point import bit_length, frame_by_frame, int16, shifted
from ser_tf.config import VadConfig


def _table(noise: Sequence[int], speech: Sequence[int]) -> np.ndarray:
    """int32 [model, band, Gaussian], from the six bands of each model's first Gaussian, then of its second."""
    return np.array([noise, speech], np.int32).reshape(2, 2, 6).swapaxes(1, 2)


WEIGHTS = _table(
    noise=[34, 62, 72, 66, 53, 25, 94, 66, 56, 62, 75, 103],
    speech=[48, 82, 45, 87, 50, 47, 80, 46, 83, 41, 78, 81],
)
"""Of the two Gaussians, Q7."""
FIRST_MEANS = _table(
    noise=[6738, 4892, 7065, 6715, 6771, 3369, 7646, 3863, 7820, 7266, 5020, 4362],
    speech=[8306, 10_085, 10_078, 11_823, 11_843, 6309, 9473, 9571, 10_879, 7581, 8180, 7483],
)
"""Loudness in dB, Q7, like the deviations."""
FIRST_DEVIATIONS = _table(
    noise=[378, 1064, 493, 582, 688, 593, 474, 697, 475, 688, 421, 455],
    speech=[555, 505, 567, 524, 585, 1231, 509, 828, 492, 1540, 1079, 850],
)
LEAST_DEVIATION = 384
LOG2_E = 5909
"""Q12."""
LARGEST_EXPONENT = 22_005
"""Of a Gaussian, Q10. Its density reaches zero well below this."""
CERTAIN = 1 << 14
"""A share of 1, Q14."""
SHARES_WITHOUT_EVIDENCE = np.array([[[CERTAIN, 0]], [[0, 0]]], np.int32)
"""Of the two Gaussians, when the model gives the frame no likelihood."""

BAND_WEIGHTS = np.array([6, 8, 10, 12, 14, 16], np.int32)


class Thresholds(NamedTuple):
    """Thresholds of a mode, for frames of 10, 20 and 30 ms."""

    one_band: Sequence[int]
    """log2 of the likelihood ratio, Q2, that any one band must exceed."""
    all_bands: Sequence[int]
    """Or this must be reached by the sum over the bands, weighted by `BAND_WEIGHTS`."""
    short_hangover: Sequence[int]
    """Frames after speech that also count as speech."""
    long_hangover: Sequence[int]
    """The same after more than `LONG_RUN_FRAMES` consecutive frames of speech."""

    def at(self, frame_milliseconds: int) -> list[int]:
        """The four for frames of that length."""
        return [each[frame_milliseconds // 10 - 1] for each in self]


MODES = (
    Thresholds((24, 21, 24), (57, 48, 57), (8, 4, 3), (14, 7, 5)),
    Thresholds((37, 32, 37), (100, 80, 100), (8, 4, 3), (14, 7, 5)),
    Thresholds((82, 78, 82), (285, 260, 285), (6, 3, 2), (9, 5, 3)),
    Thresholds((94, 94, 94), (1100, 1050, 1100), (6, 3, 2), (9, 5, 3)),
)
LONG_RUN_FRAMES = 6


def _per_model(noise: int, speech: int) -> np.ndarray:
    """int32 [model, band, Gaussian]; TensorFlow is faster without broadcasting."""
    return np.array([noise, speech], np.int32).repeat(12).reshape(2, 6, 2)


IS_SPEECH_MODEL = _per_model(0, 1) == 1
LEARNING_RATES = _per_model(655, 6554)
"""Of the means, Q15 and Q14."""
SMALLEST_MEANS = np.where(IS_SPEECH_MODEL, [640, 768], [5 << 7, 6 << 7]).astype(np.int32)
LARGEST_MEANS = _table(
    noise=[(72 - band) << 7 for band in range(6)] + [(73 - band) << 7 for band in range(6)],
    speech=[13_440, 12_032, 12_032, 12_160, 12_160, 12_160] * 2,
)
LARGEST_CENTRES = np.array(
    [[9216, 9088, 8960, 8832, 8704, 8576], [11_392, 11_392, 11_520, 11_520, 11_520, 11_520]], np.int32
)
"""Of both Gaussians together, [model, band]."""
BACKGROUND_PULL = 154
"""How fast the background moves the means of the noise model, Q8."""
LEAST_DIFFERENCES = np.array([544, 544, 576, 576, 576, 576], np.int32)
"""Between the centres of speech and noise in a band, Q5."""


class _Models(NamedTuple):
    """Two mixtures of two Gaussians for each band, int32 [B, model, band, Gaussian] in dB, Q7."""

    means: tf.Tensor
    deviations: tf.Tensor


class _Hangover(NamedTuple):
    run: tf.Tensor
    """int32 [B], frames of speech in a row."""
    left: tf.Tensor
    """int32 [B], frames that will still count as speech."""


def decisions_of(loudness: tf.Tensor, is_sound: tf.Tensor, background: tf.Tensor, config: VadConfig) -> tf.Tensor:
    """Whether each frame is speech, bool [F, B], from loudness and background [F, B, 6]."""
    one_band, all_bands, short_hangover, long_hangover = MODES[config.mode].at(config.frame_milliseconds)
    batch = tf.shape(loudness)[1]
    models = _Models(
        means=tf.tile(FIRST_MEANS[None], [batch, 1, 1, 1]), deviations=tf.tile(FIRST_DEVIATIONS[None], [batch, 1, 1, 1])
    )
    hangover = _Hangover(run=tf.zeros([batch], tf.int32), left=tf.zeros([batch], tf.int32))

    def step(
        state: tuple[_Models, _Hangover], loudness: tf.Tensor, background: tf.Tensor, is_sound: tf.Tensor
    ) -> tuple[tuple[_Models, _Hangover], tf.Tensor]:
        models, hangover = state
        slopes, likelihoods, shares = _likelihoods(models, loudness)
        octaves = bit_length(likelihoods)
        ratios = octaves[:, 1] - octaves[:, 0]  # log2 [B, 6]
        is_speech = tf.reduce_any(4 * ratios > one_band, axis=-1)
        is_speech |= tf.reduce_sum(BAND_WEIGHTS * ratios, axis=-1) >= all_bands
        is_speech &= is_sound
        learned = _learned(models, loudness, background, slopes, shares, is_speech[:, None, None, None])
        models = _Models(
            *(tf.where(is_sound[:, None, None, None], *pair) for pair in zip(learned, models, strict=True))
        )

        run = tf.where(is_speech, hangover.run + 1, 0)
        after = tf.where(run > LONG_RUN_FRAMES, long_hangover, short_hangover)
        left = tf.where(is_speech, after, tf.maximum(hangover.left - 1, 0))
        return (models, _Hangover(run, left)), is_speech | (hangover.left > 0)

    per_gaussian = tf.tile(loudness[:, :, None, :, None], [1, 1, 2, 1, 2])
    return frame_by_frame(step, (models, hangover), (per_gaussian, background, is_sound), tf.bool)


def _likelihoods(models: _Models, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """How well the models explain the loudness of a frame, int32 [B, model, band, Gaussian], Q4.

    Returns:
        (x - mean) / deviation ** 2 of each Gaussian, int32 [B, model, band, Gaussian], Q11; each model's likelihood,
        int32 [B, model, band], Q27; and the Gaussians' shares in it, [B, model, band, Gaussian], Q14.
    """
    inverse = ((1 << 17) + shifted(models.deviations, 1)) // models.deviations  # Q10
    precision = shifted(tf.square(shifted(inverse, 2)), 2)  # Q14
    distance = 8 * loudness - models.means  # Q7
    slopes = shifted(precision * distance, 10)
    exponent = tf.minimum(shifted(slopes * distance, 9), LARGEST_EXPONENT)  # Q10
    octaves = shifted(LOG2_E * exponent, 12)
    # 2 ** -octaves: its fraction by a straight line, then shifted by its whole part. Q10
    fraction = tf.bitwise.bitwise_or(tf.bitwise.bitwise_and(-octaves, (1 << 10) - 1), 1 << 10)
    density = inverse * shifted(fraction, shifted(octaves + (1 << 10) - 1, 10))  # Q20
    parts = WEIGHTS * density
    likelihoods = tf.reduce_sum(parts, axis=-1)

    whole = shifted(likelihoods, 12)[..., None]  # Q15
    first = (shifted(parts[..., :1], 12) * CERTAIN) // tf.maximum(whole, 1)
    shares = tf.where(whole > 0, tf.concat([first, CERTAIN - first], axis=-1), SHARES_WITHOUT_EVIDENCE)
    return slopes, likelihoods, shares


def _learned(
    models: _Models,
    loudness: tf.Tensor,
    background: tf.Tensor,
    slopes: tf.Tensor,
    shares: tf.Tensor,
    is_speech: tf.Tensor,
) -> _Models:
    """The models after a frame: the model of its class adapts to it, and the noise model follows the background."""
    means, deviations = models
    learns = is_speech == IS_SPEECH_MODEL

    pull = int16(shifted(shares * slopes, 11))
    step = shifted(shifted(pull * LEARNING_RATES, 21) + _per_model(0, 1), 1)  # only speech is rounded
    away = 16 * background - shifted(_weighted(means)[:, 0], 6)  # Q8
    follow = tf.stack([shifted(BACKGROUND_PULL * away, 9), tf.zeros_like(away)], axis=1)[..., None]
    moved = tf.where(learns, means + step, means) + follow
    moved = tf.where(learns | ~IS_SPEECH_MODEL, tf.clip_by_value(moved, SMALLEST_MEANS, LARGEST_MEANS), moved)

    offset = loudness - shifted(means + _per_model(0, 4), 3)  # Q4
    excess = shifted(slopes * offset, 3) - (1 << 12)  # ((x - mean) / deviation) ** 2 - 1, Q12
    gain = shifted(shifted(shares + _per_model(2, 0), 2) * excess, _per_model(14, 4))
    change = tf.truncatediv(gain, int16(deviations * _per_model(1, 10)))
    change = shifted(int16(change + _per_model(32, 128)), _per_model(6, 8))
    widened = tf.maximum(deviations + change, LEAST_DEVIATION)
    return _Models(_separated(moved), tf.where(learns, widened, deviations))


def _separated(means: tf.Tensor) -> tf.Tensor:
    """The means [B, model, band, Gaussian], moved apart where noise and speech are too close, and limited."""
    centre = shifted(_weighted(means), 9)  # Q5
    lack = tf.maximum(LEAST_DIFFERENCES - (centre[:, 1] - centre[:, 0]), 0)
    means += tf.stack([-shifted(3 * lack, 2), shifted(13 * lack, 2)], axis=1)[..., None]
    return means - tf.maximum(shifted(_weighted(means), 7) - LARGEST_CENTRES, 0)[..., None]


def _weighted(means: tf.Tensor) -> tf.Tensor:
    """The mean of both Gaussians, int32 [B, model, band], Q14."""
    return tf.reduce_sum(WEIGHTS * means, axis=-1)
