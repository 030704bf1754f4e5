"""Batch normalisation in one kernel: Keras 3's dozen operations take more than half of a training step on a CPU."""

# ruff: noqa: D102 - the class docstring describes the methods that Keras calls.

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="ser_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation in TensorFlow's fused kernel, which Keras 3 does not use.

    Weights, results and arguments are those of `keras.layers.BatchNormalization`, which also computes the cases that
    the kernel does not support: other backends, masks, synchronised devices, and maps of other shapes.

    Example:

    >>> FusedBatchNormalization()(np.ones((2, 10, 4, 32))).shape
    TensorShape([2, 10, 4, 32])

    Args:
        **kwargs: Arguments of `keras.layers.BatchNormalization`.

    Input shape:
        `[batch, time, frequency, channels]`.

    Output shape:
        That of the input.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        is_fused = (
            keras.backend.backend() == "tensorflow"
            and mask is None
            and not self.synchronized
            and self.scale
            and self.center
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
        )
        if not is_fused:
            return super().call(inputs, training=training, mask=mask)
        return self._fused(inputs, is_training=bool(training) and self.trainable)

    def _fused(self, inputs: Any, is_training: bool) -> Any:
        import tensorflow as tf  # the only place in this room that does not use `keras.ops`

        if is_training:
            given_mean = given_variance = tf.zeros([0], tf.float32)
        else:
            given_mean, given_variance = self.moving_mean.value, self.moving_variance.value
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, self.compute_dtype),
            scale=tf.cast(self.gamma, tf.float32),
            offset=tf.cast(self.beta, tf.float32),
            mean=given_mean,
            variance=given_variance,
            epsilon=self.epsilon,
            is_training=is_training,
        )
        if is_training:
            count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
            variance *= (count - 1) / count  # the kernel divides by count - 1, Keras by count
            for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + of_batch * (1 - self.momentum))
        return outputs
