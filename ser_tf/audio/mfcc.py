"""speech -> MFCC statistics: one vector per utterance, for a yardstick without a network."""

import numpy as np
import tensorflow as tf
from scipy.signal import savgol_filter

from ser_tf.config import SAMPLE_RATE_HZ, SpectrogramConfig

MFCCS = 20
MEL_BANDS = 40
MEL_RANGE_HZ = (20.0, 8000.0)
POWER_FLOOR = 1e-6
DELTA_FRAMES = 9
"""A delta is the slope of a regression line over this many frames."""


def mfcc_statistics(speech: np.ndarray) -> np.ndarray:
    """Mean and standard deviation over time of 20 MFCCs and of their deltas; windows as in `SpectrogramConfig`.

    Args:
        speech: float32 [N] at 16 kHz, at least one window.

    Returns:
        float32 [80]: the means of MFCCs and deltas, then their deviations.
    """
    mfccs = _mfccs(speech).numpy()  # [T, 20]
    deltas = savgol_filter(mfccs, DELTA_FRAMES, polyorder=1, deriv=1, axis=0, mode="nearest")
    both = np.concatenate([mfccs, deltas], axis=1)  # [T, 40]
    return np.concatenate([both.mean(axis=0), both.std(axis=0)])


@tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
def _mfccs(speech: tf.Tensor) -> tf.Tensor:
    stft = SpectrogramConfig()
    spectra = tf.signal.stft(
        speech, stft.window_samples, stft.hop_samples, stft.fft_samples, window_fn=tf.signal.hamming_window
    )
    mel = tf.signal.linear_to_mel_weight_matrix(MEL_BANDS, stft.bins, SAMPLE_RATE_HZ, *MEL_RANGE_HZ)
    power = tf.square(tf.abs(spectra)) @ mel  # [T, bands]
    return tf.signal.mfccs_from_log_mel_spectrograms(tf.math.log(power + POWER_FLOOR))[:, :MFCCS]
