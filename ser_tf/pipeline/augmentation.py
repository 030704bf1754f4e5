"""Augmentation: random changes to the spectrograms of training crops.

The random numbers of a crop are a pure function of its seed (`draws`). The changes are a deterministic function of a
whole batch and its numbers, which is faster than one crop at a time.
"""

import math

import tensorflow as tf

from ser_tf.config import AugmentationConfig

RIPPLES = 3
"""Cosines over frequency in the gain of the equaliser."""
_NAMED = (
    "stretch",
    "warp",
    "tilt",
    *(f"ripple_{order}" for order in range(1, RIPPLES + 1)),
    *(f"phase_{order}" for order in range(1, RIPPLES + 1)),
    "noisy",
    "ratio",
    "colour",
)
"""The first random numbers of a crop, followed by two for each mask."""
_SMALLEST_POWER = 1e-20


def draws(seed: tf.Tensor, config: AugmentationConfig) -> tf.Tensor:
    """The random numbers of one crop, each uniform between 0 and 1: float32 [D] of a seed int64 [2]."""
    return tf.random.stateless_uniform([len(_NAMED) + 2 * (config.time_masks + config.frequency_masks)], seed)


def source_frames(frames: int, config: AugmentationConfig) -> int:
    """Frames that a crop needs before time stretching, to have `frames` afterwards."""
    return math.ceil((frames - 1) * math.exp(config.time_stretch)) + 1


def with_changes(magnitude: tf.Tensor, numbers: tf.Tensor, frames: int, config: AugmentationConfig) -> tf.Tensor:
    """Change the pace and pitch of crops, equalise them and add noise.

    Args:
        magnitude: float32 [B, `source_frames(frames)`, bins].
        numbers: float32 [B, D], from `draws`.
        frames: frames of a crop afterwards.
        config: the changes and their strength.

    Returns:
        float32 [B, frames, bins].
    """
    number = dict(zip(_NAMED, tf.unstack(numbers[:, : len(_NAMED)], axis=1), strict=True))
    if config.time_stretch:
        magnitude = _stretched(magnitude, tf.exp(config.time_stretch * _symmetric(number["stretch"])), frames)
    if config.frequency_warp:
        magnitude = _warped(magnitude, tf.exp(config.frequency_warp * _symmetric(number["warp"])))
    if config.equaliser_tilt or config.equaliser_ripple:
        magnitude *= tf.exp(_gain(number, magnitude.shape[2], config))[:, None, :]
    if config.noise_probability:
        magnitude = _noisy(magnitude, number, config)
    return magnitude


def with_masks(spectrogram: tf.Tensor, numbers: tf.Tensor, config: AugmentationConfig) -> tf.Tensor:
    """Normalised spectrograms with random bands of time and frequency set to 0, their mean (SpecAugment).

    Args:
        spectrogram: float32 [B, T, bins].
        numbers: float32 [B, D], from `draws`.
        config: the number of masks and their largest width; each width is uniform from 0 to it.

    Returns:
        float32 [B, T, bins].
    """
    _, length, bins = spectrogram.shape
    of_time, of_frequency = tf.split(
        numbers[:, len(_NAMED) :], [2 * config.time_masks, 2 * config.frequency_masks], axis=1
    )
    if config.time_masks:
        spectrogram *= _outside_bands(length, config.time_mask_frames, of_time)[:, :, None]
    if config.frequency_masks:
        spectrogram *= _outside_bands(bins, config.frequency_mask_bins, of_frequency)[:, None, :]
    return spectrogram


def _symmetric(uniform: tf.Tensor) -> tf.Tensor:
    """Uniform between -1 and 1."""
    return 2 * uniform - 1


def _normal(uniform: tf.Tensor) -> tf.Tensor:
    """Normal with deviation 1."""
    return tf.math.ndtri(tf.clip_by_value(uniform, 1e-6, 1 - 1e-6))


def _stretched(magnitude: tf.Tensor, factors: tf.Tensor, frames: int) -> tf.Tensor:
    """The first `frames` of each crop after lengthening it by `factors` [B], interpolated linearly."""
    places = tf.range(frames, dtype=tf.float32) / factors[:, None]  # [B, frames]
    before = tf.minimum(tf.cast(places, tf.int32), magnitude.shape[1] - 2)
    share = (places - tf.cast(before, tf.float32))[:, :, None]
    first, second = (tf.gather(magnitude, before + step, batch_dims=1) for step in (0, 1))
    return first + share * (second - first)


def _warped(magnitude: tf.Tensor, factors: tf.Tensor) -> tf.Tensor:
    """Frequencies multiplied by `factors` [B], interpolated linearly; the highest bin fills a gap above it."""
    bins = tf.range(magnitude.shape[2], dtype=tf.float32)
    places = tf.minimum(bins / factors[:, None], bins[-1])  # [B, bins], the source of each bin
    weights = tf.nn.relu(1 - tf.abs(bins[:, None] - places[:, None, :]))  # [B, bins, bins]
    return tf.matmul(magnitude, weights)


def _gain(number: dict[str, tf.Tensor], bins: int, config: AugmentationConfig) -> tf.Tensor:
    """Gain of a smooth random equaliser in nepers, [B, bins]."""
    frequency = tf.linspace(0.0, 1.0, bins)  # of the highest
    gain = config.equaliser_tilt * _normal(number["tilt"])[:, None] * (frequency - 0.5)
    for order in range(1, RIPPLES + 1):
        height = config.equaliser_ripple / order * _normal(number[f"ripple_{order}"])
        phase = 2 * math.pi * number[f"phase_{order}"]
        gain += height[:, None] * tf.cos(math.pi * order * frequency + phase[:, None])
    return gain


def _noisy(magnitude: tf.Tensor, number: dict[str, tf.Tensor], config: AugmentationConfig) -> tf.Tensor:
    """Add the mean power of white or pink noise to some crops, at a random signal-to-noise ratio."""
    power = tf.square(magnitude)
    bins = magnitude.shape[2]
    pink = bins / tf.range(1.0, bins + 1)  # power falls as 1 / frequency
    spectra = tf.stack([tf.ones([bins]), pink / tf.reduce_mean(pink)])  # each of mean 1
    lowest, highest = config.noise_snr_db
    ratio = 10 ** ((lowest + (highest - lowest) * number["ratio"]) / 10)
    level = tf.where(number["noisy"] < config.noise_probability, tf.reduce_mean(power, [1, 2]) / ratio, 0)  # [B]
    noise = level[:, None] * tf.gather(spectra, tf.cast(number["colour"] < 0.5, tf.int32))  # [B, bins]
    return tf.sqrt(power + noise[:, None, :] + _SMALLEST_POWER)


def _outside_bands(size: int, widest: int, numbers: tf.Tensor) -> tf.Tensor:
    """Float32 [B, size]: 0 inside any random band, 1 elsewhere; each band uses two numbers of a row."""
    of_widths, of_starts = tf.split(numbers, 2, axis=1)
    widths = tf.floor(of_widths * (min(widest, size) + 1))
    starts = tf.floor(of_starts * (size - widths + 1))
    cells = tf.range(size, dtype=tf.float32)
    inside = (cells >= starts[:, :, None]) & (cells < (starts + widths)[:, :, None])  # [B, bands, size]
    return 1 - tf.cast(tf.reduce_any(inside, 1), tf.float32)
