"""Noise on speech and masks on spectrograms, for training crops; each draw is a pure function of its seed."""

import tensorflow as tf

from ser_tf.config import AugmentationConfig


def with_noise(speech: tf.Tensor, seed: tf.Tensor, config: AugmentationConfig) -> tf.Tensor:
    """Speech [N] with white noise, in `noise_probability` of the cases, at a random signal-to-noise ratio.

    Args:
        speech: float32 [N].
        seed: int64 [2].
        config: how often, and how loud.

    Returns:
        float32 [N].
    """
    if config.noise_probability == 0:
        return speech
    which, how_loud, what = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
    snr_db = tf.random.stateless_uniform([], how_loud, *config.noise_snr_db)
    level = tf.sqrt(tf.reduce_mean(tf.square(speech))) * 10 ** (-snr_db / 20)
    noise = level * tf.random.stateless_normal(tf.shape(speech), what)
    is_noisy = tf.random.stateless_uniform([], which) < config.noise_probability
    return tf.where(is_noisy, speech + noise, speech)


def with_masks(spectrogram: tf.Tensor, seed: tf.Tensor, config: AugmentationConfig) -> tf.Tensor:
    """A spectrogram with random bands of time and frequency set to 0, its mean (SpecAugment, Park et al. 2019).

    Args:
        spectrogram: float32 [T, bins], normalised.
        seed: int64 [2].
        config: how many masks, and how wide they may be; each width is uniform from 0 to that.

    Returns:
        float32 [T, bins].
    """
    length, bins = tf.unstack(tf.shape(spectrogram))
    time_seed, frequency_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    if config.time_masks:
        kept = _outside_bands(length, config.time_masks, config.time_mask_frames, time_seed)
        spectrogram *= tf.expand_dims(kept, 1)
    if config.frequency_masks:
        kept = _outside_bands(bins, config.frequency_masks, config.frequency_mask_bins, frequency_seed)
        spectrogram *= tf.expand_dims(kept, 0)
    return spectrogram


def _outside_bands(size: tf.Tensor, bands: int, widest: int, seed: tf.Tensor) -> tf.Tensor:
    """Float32 [size]: 0 inside any of the random bands, 1 elsewhere."""
    width_seed, start_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    widths = tf.random.stateless_uniform([bands, 1], width_seed, 0, tf.minimum(widest, size) + 1, tf.int32)
    starts = _uniform_up_to(size - widths, start_seed)
    cells = tf.expand_dims(tf.range(size), 0)
    inside = tf.logical_and(cells >= starts, cells < starts + widths)  # [bands, size]
    return 1.0 - tf.cast(tf.reduce_any(inside, 0), tf.float32)


def _uniform_up_to(largest: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """A whole number from 0 to each of `largest`, both included."""
    draws = tf.random.stateless_uniform(tf.shape(largest), seed)
    return tf.cast(draws * tf.cast(largest + 1, tf.float32), tf.int32)
