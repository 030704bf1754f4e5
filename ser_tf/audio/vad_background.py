"""Loudness of the bands -> the background of WebRTC's detector: how loud each band is when nobody speaks."""

from typing import NamedTuple

import tensorflow as tf

from ser_tf.audio.fixed_point import frame_by_frame, shifted

REMEMBERED = 16
"""Number of lowest loudnesses kept for each band."""
OLDEST_FRAMES = 100
NO_LOUDNESS = 10_000
FIRST_BACKGROUND = 1600
FALLING, RISING = 6553, 32_439
"""Share of the background's last value that remains, Q15."""


class _Memory(NamedTuple):
    """The lowest values of each band's loudness."""

    values: tf.Tensor
    """int32 [B, 6, 16], in order."""
    ages: tf.Tensor
    """In frames with a sound."""
    background: tf.Tensor
    """int32 [B, 6]: the third lowest, smoothed."""


def background_of(loudness: tf.Tensor, is_sound: tf.Tensor) -> tf.Tensor:
    """Level below which each band's loudness [F, B, 6] rarely falls, int32 [F, B, 6] in dB, Q4."""
    batch = tf.shape(loudness)[1]
    memory = _Memory(
        values=tf.fill([batch, 6, REMEMBERED], NO_LOUDNESS),
        ages=tf.zeros([batch, 6, REMEMBERED], tf.int32),
        background=tf.fill([batch, 6], FIRST_BACKGROUND),
    )
    is_sound = is_sound[..., None]
    earlier = tf.cumsum(tf.cast(is_sound, tf.int32), exclusive=True)  # frames with a sound before this one

    def step(
        memory: _Memory, loudness: tf.Tensor, is_sound: tf.Tensor, earlier: tf.Tensor
    ) -> tuple[_Memory, tf.Tensor]:
        values, ages = _remember(memory, loudness)
        lowest = tf.where(earlier > 2, values[..., 2], values[..., 0])
        lowest = tf.where(earlier > 0, lowest, FIRST_BACKGROUND)
        remains = tf.where(lowest < memory.background, FALLING, RISING)
        smoothed = (remains + 1) * memory.background + ((1 << 15) - 1 - remains) * lowest + (1 << 14)
        background = tf.where(is_sound, shifted(smoothed, 15), memory.background)
        values = tf.where(is_sound[..., None], values, memory.values)
        ages = tf.where(is_sound[..., None], ages, memory.ages)
        return _Memory(values, ages, background), background

    return frame_by_frame(step, memory, (loudness, is_sound, earlier), tf.int32)


def _remember(memory: _Memory, loudness: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values and ages one frame later, with the loudness [B, 6] of that frame if it is among the lowest.

    WebRTC walks through the memory from its lowest value. When it forgets one, the next moves into the place just
    checked and is skipped: in this frame it neither ages nor is forgotten.
    """
    places = tf.range(REMEMBERED)
    is_old = memory.ages == OLDEST_FRAMES
    comes_before = places < places[:, None]
    last_young = tf.reduce_max(tf.where(comes_before & ~is_old[:, :, None], places, -1), axis=-1)  # [B, 6, 16]
    passed_over = (places - 1 - last_young) % 2  # of old ones in a row, every other one is forgotten
    is_forgotten = is_old & (passed_over == 0)

    newest = loudness[..., None]
    values = tf.concat([tf.where(is_forgotten, NO_LOUDNESS, memory.values), newest], axis=-1)
    ages = tf.concat([memory.ages + 1 - passed_over, tf.ones_like(newest)], axis=-1)
    place = tf.reduce_sum(tf.cast(memory.values <= newest, tf.int32), axis=-1, keepdims=True)
    rank = tf.concat([tf.where(is_forgotten, 2 * REMEMBERED, 2 * places), 2 * place - 1], axis=-1)
    order = tf.math.top_k(-rank, REMEMBERED).indices
    return tf.gather(values, order, batch_dims=2), tf.gather(ages, order, batch_dims=2)
