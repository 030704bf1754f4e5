"""WebRTC's integer arithmetic in TensorFlow: int32, cut to 16 bits where WebRTC's variables hold no more.

"Qn" marks integers that count units of 2 ** -n.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

POWERS_OF_TWO = 2 ** np.arange(32)


def shifted(values: tf.Tensor, bits: tf.Tensor | int) -> tf.Tensor:
    """values / 2 ** bits, rounded down."""
    return tf.bitwise.right_shift(values, bits)


def int16(values: tf.Tensor) -> tf.Tensor:
    """int32 wrapped around to 16 bits."""
    return tf.cast(tf.cast(values, tf.int16), tf.int32)


def bit_length(values: tf.Tensor) -> tf.Tensor:
    """Number of binary digits; 0 for 0."""
    return tf.reduce_sum(tf.cast(tf.cast(values, tf.int64)[..., None] >= POWERS_OF_TWO, tf.int32), axis=-1)


def frame_by_frame(
    step: Callable[..., tuple[Any, tf.Tensor]], state: Any, frames: tuple[tf.Tensor, ...], dtype: tf.DType
) -> tf.Tensor:
    """Outputs of `step`, which takes and returns a state, for each frame [B, ...] of `frames` [F, B, ...]."""
    count = tf.shape(frames[0])[0]

    def body(number: tf.Tensor, state: Any, outputs: tf.TensorArray) -> tuple[tf.Tensor, Any, tf.TensorArray]:
        state, output = step(state, *(tf.gather(each, number) for each in frames))
        return number + 1, state, outputs.write(number, output)

    outputs = tf.TensorArray(dtype, count)
    return tf.while_loop(lambda number, *_: number < count, body, (0, state, outputs))[-1].stack()
