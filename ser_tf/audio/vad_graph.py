"""waveform -> speech in TensorFlow's own operations: silence removal for graphs that are served without Python.

It matches `ser_tf.audio.vad` bit for bit: WebRTC's detector in fixed point (`ser_tf.audio.fixed_point`). The numbers
come from WebRTC's published source (BSD licence).

    samples --vad_filters----> 8 kHz, then six bands
            --vad_loudness---> loudness of each band in each frame, and whether there is a sound
            --vad_background-> loudness of each band when nobody speaks
            --vad_mixtures---> speech or not
"""

import tensorflow as tf

from ser_tf.audio.checks import MINIMUM_SAMPLES
from ser_tf.audio.vad_background import background_of
from ser_tf.audio.vad_filters import bands_of, decimated
from ser_tf.audio.vad_loudness import loudness_of
from ser_tf.audio.vad_mixtures import decisions_of
from ser_tf.config import SAMPLE_RATE_HZ, VadConfig


def remove_silence_in_graph(
    samples: tf.Tensor, lengths: tf.Tensor, config: VadConfig
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Join the voiced frames of each waveform like `ser_tf.audio.vad.remove_silence`, but accept any length.

    Args:
        samples: int16 [B, N] at 16 kHz, padded with anything to a common N.
        lengths: int32 [B], the true length of each waveform.
        config: mode, frame length, padding, and the minimum speech; with less, the whole waveform is kept.

    Returns:
        The speech, int16 [B, N'], zero beyond its end; its lengths, int32 [B]; and whether a waveform was kept whole
        because it holds too little speech, bool [B].
    """
    frame_samples = config.frame_samples()
    count = tf.shape(samples)[1]
    is_true = tf.sequence_mask(lengths, count)  # [B, N]
    filled = tf.pad(tf.where(is_true, samples, 0), [[0, 0], [0, -count % frame_samples]])
    frames = -(-lengths // frame_samples)  # the last one is filled up with zeros
    is_speech = _dilated(voiced_frames(filled, frames * frame_samples, config), config.padding_frames)
    is_voiced = tf.repeat(is_speech, frame_samples, axis=1)[:, :count] & is_true

    voiced_samples = tf.cast(tf.math.count_nonzero(is_voiced, axis=1), tf.float64)
    kept_whole = voiced_samples < max(config.minimum_speech_seconds * SAMPLE_RATE_HZ, MINIMUM_SAMPLES)
    speech = tf.ragged.boolean_mask(samples, tf.where(kept_whole[:, None], is_true, is_voiced))
    return speech.to_tensor(), tf.cast(speech.row_lengths(), tf.int32), kept_whole


def voiced_frames(samples: tf.Tensor, lengths: tf.Tensor, config: VadConfig) -> tf.Tensor:
    """Decisions of a new detector per row on each of its whole frames.

    Args:
        samples: int16 [B, N] at 16 kHz, padded with anything to a common N.
        lengths: int32 [B], the true length of each row.
        config: the detector's mode and frame length.

    Returns:
        bool [B, N // frame samples]: speech; false beyond a row's whole frames.
    """
    frame_samples = config.frame_samples()
    frames = tf.shape(samples)[1] // frame_samples
    framed = tf.pad(samples[:, : frames * frame_samples], [[0, 0], [0, frame_samples]])  # a loop needs a frame to stack
    narrow = decimated(tf.cast(framed, tf.int32))
    loudness, is_sound = loudness_of(bands_of(narrow, config), config)
    is_speech = decisions_of(loudness, is_sound, background_of(loudness, is_sound), config)
    return tf.transpose(is_speech[:-1]) & tf.sequence_mask(lengths // frame_samples, frames)


def _dilated(is_speech: tf.Tensor, frames: int) -> tf.Tensor:
    """`is_speech` [B, F] with `frames` more on each side of every voiced frame."""
    if frames == 0:
        return is_speech
    before = tf.cumsum(tf.pad(tf.cast(is_speech, tf.int32), [[0, 0], [frames + 1, frames]]), axis=1)
    return before[:, 2 * frames + 1 :] > before[:, : -2 * frames - 1]
