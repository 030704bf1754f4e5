"""speech -> spectrogram: the same code for training, evaluation, prediction and export.

It uses only TensorFlow operations, so it runs in a tf.data graph and is exported with the network.
"""

import numpy as np
import tensorflow as tf
from scipy.signal import get_window

from ser_tf.config import SpectrogramConfig

POWER = 0.3
LOG_FLOOR = 1e-3
SMALLEST_DEVIATION = 1e-6
"""Divisor of a constant spectrogram (or bin, or frame); far below the deviation of any audible speech."""


def spectrogram(
    speech: tf.Tensor, samples: tf.Tensor, config: SpectrogramConfig, *, portable: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Normalised short-time spectra of a batch of utterances (paper, section 3.1).

    Padding in `speech` has no influence: no frame reads it, and mean and deviation use only true frames.

    Args:
        speech: float32 [B, N], in [-1, 1] at 16 kHz, padded with anything to a common N.
        samples: int32 [B], the true length of each utterance.
        config: window, hop, FFT, compression and normalisation.
        portable: use only operations that ONNX and LiteRT have: the Fourier transform becomes a matrix product, equal
            up to rounding.

    Returns:
        The spectrogram, float32 [B, T, bins] with T = `config.frames(N)`, zero after the true end; and the true number
        of frames, int32 [B], by the same formula: 1 + (N - window) // hop if all frames lie inside.
    """
    magnitude, frames = magnitudes(speech, samples, config, portable=portable)
    return compressed_and_normalised(magnitude, frames, config, portable=portable), frames


def magnitudes(
    speech: tf.Tensor, samples: tf.Tensor, config: SpectrogramConfig, *, portable: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """The first half of `spectrogram`: magnitudes, float32 [B, T, bins], and the true number of frames, int32 [B]."""
    samples = tf.cast(samples, tf.int32)
    speech = _extended(tf.cast(speech, tf.float32), samples, config)
    magnitude = _portable_magnitude(speech, config) if portable else _magnitude(speech, config)
    return magnitude, tf.maximum(config.frames(samples), 0)


def compressed_and_normalised(
    magnitude: tf.Tensor, frames: tf.Tensor, config: SpectrogramConfig, *, portable: bool = False
) -> tf.Tensor:
    """The second half of `spectrogram`: magnitudes [B, T, bins] -> network input of the same shape."""
    return _normalised(_compressed(magnitude, config, portable), frames, config)


def _magnitude(speech: tf.Tensor, config: SpectrogramConfig) -> tf.Tensor:
    return tf.abs(
        tf.signal.stft(
            speech,
            frame_length=config.window_samples,
            frame_step=config.hop_samples,
            fft_length=config.fft_samples,
            window_fn={"hamming": tf.signal.hamming_window, "hann": tf.signal.hann_window}[config.window],
        )
    )


def _portable_magnitude(speech: tf.Tensor, config: SpectrogramConfig) -> tf.Tensor:
    """Real and imaginary part from one matrix product: ONNX has no magnitude of complex numbers."""
    is_even = config.window_samples % 2 == 0
    window = get_window(config.window, config.window_samples, fftbins=is_even)  # tf.signal's are periodic if even
    places = np.outer(np.arange(config.window_samples), np.arange(config.bins))
    angles = 2 * np.pi * places / config.fft_samples
    waves = window[:, None] * np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    frames = tf.signal.frame(speech, config.window_samples, config.hop_samples)
    real, imaginary = tf.split(tf.tensordot(frames, tf.constant(waves, tf.float32), 1), 2, axis=-1)
    return tf.sqrt(tf.square(real) + tf.square(imaginary))


def _extended(speech: tf.Tensor, samples: tf.Tensor, config: SpectrogramConfig) -> tf.Tensor:
    """The speech [B, N] that the frames read, each utterance extended at its true ends."""
    if config.framing == "inside" and config.reversal == "none":
        return speech
    repeats = 2 if config.reversal == "appended" else 1
    width = config.window_samples if config.framing == "centred" else 0
    samples = tf.expand_dims(samples, 1)  # [B, 1]
    end = repeats * tf.shape(speech)[1] + width - width // 2
    place = tf.abs(tf.range(-(width // 2), end))  # mirrored at the first sample
    last = repeats * samples - 1
    place = tf.where(place > last, 2 * last - place, place)  # mirrored at the last one
    place = tf.where(place >= samples, 2 * samples - 1 - place, place)  # the second half runs backwards
    return tf.gather(speech, tf.clip_by_value(place, 0, samples - 1), batch_dims=1)


def _compressed(magnitude: tf.Tensor, config: SpectrogramConfig, portable: bool) -> tf.Tensor:
    if config.compression == "power":
        return tf.pow(magnitude, POWER)
    if config.compression == "log":
        # ln(magnitude + floor) - ln(floor): the normalisation removes the constant, and silence is exactly 0.
        scaled = magnitude / LOG_FLOOR
        return tf.math.log(1 + scaled) if portable else tf.math.log1p(scaled)
    return magnitude


def _normalised(values: tf.Tensor, frames: tf.Tensor, config: SpectrogramConfig) -> tf.Tensor:
    """Zero mean and unit deviation over the true frames [B], zero after them; [B, T, bins] -> [B, T, bins]."""
    is_true = tf.expand_dims(tf.sequence_mask(frames, tf.shape(values)[1]), -1)  # [B, T, 1]
    true_frames = tf.reshape(tf.cast(tf.maximum(frames, 1), tf.float32), [-1, 1, 1])
    axes, count = {
        "global": ([1, 2], true_frames * config.bins),
        "per_bin": ([1], true_frames),
        "per_frame": ([2], float(config.bins)),
    }[config.normalisation]
    mean = tf.reduce_sum(tf.where(is_true, values, 0.0), axes, keepdims=True) / count
    centred = tf.where(is_true, values - mean, 0.0)
    deviation = tf.sqrt(tf.reduce_sum(tf.square(centred), axes, keepdims=True) / count)
    return centred / tf.maximum(deviation + config.deviation_offset, SMALLEST_DEVIATION)
