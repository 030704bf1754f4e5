"""The bands of WebRTC's detector -> their loudness in each frame."""

import tensorflow as tf

from ser_tf.audio.fixed_point import bit_length, shifted
from ser_tf.audio.vad_filters import Signals
from ser_tf.config import VadConfig

LOUDNESS_PER_OCTAVE = 24_660
"""10 log10(2) dB in Q4 for each doubling of the energy, itself in Q9."""
LOUDNESS_OFFSETS = 368, 368, 272, 176, 176, 176
"""Added to the bands 80-250, 250-500, 500-1000, 1000-2000, 2000-3000 and 3000-4000 Hz."""
LEAST_ENERGY = 10
"""A frame whose bands together have at most this energy is not speech and does not adapt the models."""


def loudness_of(bands: Signals, config: VadConfig) -> tuple[tf.Tensor, tf.Tensor]:
    """Loudness of the bands in each frame, int32 [F, B, 6] in dB, Q4; and whether there is a sound, bool [F, B]."""
    rates_hz = 500, 500, 1000, 2000, 2000, 2000
    measured = [
        _band_loudness(band[0], config.frame_samples(rate_hz)) for band, rate_hz in zip(bands, rates_hz, strict=True)
    ]
    loudness, energy = (tf.transpose(tf.stack(each), [2, 1, 0]) for each in zip(*measured, strict=True))
    return loudness + LOUDNESS_OFFSETS, tf.reduce_sum(energy, axis=-1) > LEAST_ENERGY


def _band_loudness(band: tf.Tensor, frame_samples: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Loudness of int32 [B, T] in dB, Q4, and its energy up to `LEAST_ENERGY` + 1, both int32 [B, F].

    The squares are shifted so that their sum fits into 31 bits. The sum is normalised to 15 bits: a leading one, and 14
    bits that serve as the fraction of its logarithm.
    """
    batch, count = tf.unstack(tf.shape(band))
    framed = tf.reshape(band, [batch, count // frame_samples, frame_samples])
    peak = tf.reduce_max(tf.where(framed == -(1 << 15), 0, tf.abs(framed)), axis=-1)  # 16 bits hold no 2 ** 15
    headroom = 31 - bit_length(peak * peak)
    shift = tf.maximum(frame_samples.bit_length() - headroom, 0)
    energy = tf.reduce_sum(tf.cast(shifted(framed * framed, shift[..., None]), tf.int64), axis=-1)
    energy = tf.bitwise.bitwise_and(energy, (1 << 32) - 1)  # WebRTC's sum wraps around where every sample is -2 ** 15

    normalising = bit_length(energy) - 15
    mantissa = tf.cast(shifted(energy, tf.cast(tf.maximum(normalising, 0), tf.int64)), tf.int32)
    mantissa = tf.bitwise.left_shift(mantissa, tf.maximum(-normalising, 0))
    shift += normalising
    octaves = (14 << 10) + shifted(tf.bitwise.bitwise_and(mantissa, (1 << 14) - 1), 4)  # Q10
    loudness = shifted(LOUDNESS_PER_OCTAVE * octaves, 19) + shifted(LOUDNESS_PER_OCTAVE * shift, 9)
    little = shifted(mantissa, tf.maximum(-shift, 0))
    return tf.maximum(loudness, 0), tf.where(shift >= 0, LEAST_ENERGY + 1, little)
