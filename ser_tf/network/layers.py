"""Layers of the network: time masks, squeeze-and-excitation and GhostVLAD, for utterances of different lengths.

Time is always axis 1. `frames`, int32 [batch], is the true number of steps; the rest is padding, and no true output
depends on it.
"""

# ruff: noqa: D102 - the class docstring describes the methods that Keras calls.

from typing import Any

import keras
from keras import ops

_SMALLEST_NORM = 1e-6
"""Shorter vectors count as zero: their direction is rounding error and their gradient would explode."""


@keras.saving.register_keras_serializable(package="ser_tf")
class MinimumTime(keras.layers.Layer):
    """Pads time with zeros at the end to at least `minimum` steps; longer inputs stay unchanged.

    Example:

    >>> MinimumTime(3)(np.ones((1, 2, 1)))[0, :, 0]
    array([1., 1., 0.], dtype=float32)

    Args:
        minimum: Integer. Minimum number of steps of the output.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        `[batch, time, ...]`.

    Output shape:
        `[batch, max(time, minimum), ...]`.
    """

    def __init__(self, minimum: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _expect_integer("minimum", minimum, at_least=1)
        self.minimum = minimum

    def call(self, inputs: Any) -> Any:
        widths = [(0, 0)] * len(inputs.shape)
        widths[1] = (0, self.minimum)
        zeros = ops.pad(inputs[:, :0], widths)
        # The zeros left after the input's own steps: one slice, for static and dynamic time.
        return ops.concatenate([inputs, zeros[:, ops.shape(inputs)[1] :]], axis=1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, time, *rest = input_shape
        return (batch, None if time is None else max(time, self.minimum), *rest)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "minimum": self.minimum}


@keras.saving.register_keras_serializable(package="ser_tf")
class TimeMask(keras.layers.Layer):
    """Sets everything beyond the true length of each utterance to zero.

    Padding is no longer zero after a bias or a batch normalisation. A kernel that spans several time steps would carry
    it into the last true steps, so each such kernel needs a masked input. Operations within one time step do not.

    Example:

    >>> TimeMask()(np.ones((2, 3, 1)), np.array([3, 1]))[:, :, 0]
    array([[1., 1., 1.],
           [1., 0., 0.]], dtype=float32)

    Args:
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        `[batch, time, ...]`, and `frames`, int32 `[batch]`.

    Output shape:
        That of the input. Padding may hold anything, even NaN.
    """

    def call(self, inputs: Any, frames: Any) -> Any:
        is_true = _is_true(inputs, frames)
        is_true = ops.reshape(is_true, (-1, ops.shape(inputs)[1]) + (1,) * (len(inputs.shape) - 2))
        return ops.where(is_true, inputs, ops.zeros((), dtype=inputs.dtype))

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], frames_shape: tuple[int | None, ...]
    ) -> tuple[int | None, ...]:
        return inputs_shape


@keras.saving.register_keras_serializable(package="ser_tf")
class SqueezeExcitation(keras.layers.Layer):
    """Weights each channel by a gate computed from its mean over the true part of the map (Hu et al. 2018).

    Example:

    >>> maps = np.random.normal(size=(2, 10, 4, 32))
    >>> SqueezeExcitation(reduction=16)(maps, np.array([10, 7])).shape
    TensorShape([2, 10, 4, 32])

    Args:
        reduction: Integer. The gate's hidden layer has `channels // reduction` units, at least one.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        `[batch, time, frequency, channels]`, and `frames`, int32 `[batch]`, each at least 1; without `frames` the whole
        map is true.

    Output shape:
        That of the input.
    """

    def __init__(self, reduction: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _expect_integer("reduction", reduction, at_least=1)
        self.reduction = reduction

    def build(self, inputs_shape: tuple[int | None, ...], frames_shape: tuple[int | None, ...] | None = None) -> None:
        channels = inputs_shape[-1]
        assert channels is not None
        hidden = max(1, channels // self.reduction)
        self.squeeze = keras.layers.Dense(
            hidden, activation="relu", kernel_initializer="he_normal", dtype=self.dtype_policy, name="squeeze"
        )
        self.excite = keras.layers.Dense(channels, activation="sigmoid", dtype=self.dtype_policy, name="excite")
        self.squeeze.build((None, channels))
        self.excite.build((None, hidden))

    def call(self, inputs: Any, frames: Any = None) -> Any:
        # A sum scaled afterwards has a cheaper gradient than a mean.
        per_bin = 1 / inputs.shape[2]
        if frames is None:
            total = ops.sum(ops.cast(inputs, "float32"), axis=(1, 2))
            mean = total * (per_bin / ops.cast(ops.shape(inputs)[1], "float32"))  # [B, C]
        else:
            per_step = ops.sum(ops.cast(inputs, "float32"), axis=2)  # [B, T, C]
            per_step = ops.where(ops.expand_dims(_is_true(inputs, frames), -1), per_step, 0.0)
            mean = ops.sum(per_step, axis=1) * (per_bin / ops.cast(frames, "float32"))[:, None]
        gate = self.excite(self.squeeze(ops.cast(mean, inputs.dtype)))
        return inputs * gate[:, None, None, :]

    def compute_output_shape(
        self, inputs_shape: tuple[int | None, ...], frames_shape: tuple[int | None, ...] | None = None
    ) -> tuple[int | None, ...]:
        return inputs_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "reduction": self.reduction}


class _Aggregation(keras.layers.Layer):
    """Arguments and weights that `GhostVLAD` and `VggvoxVLAD` share."""

    def __init__(self, clusters: int = 8, ghost_clusters: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _expect_integer("clusters", clusters, at_least=1)
        _expect_integer("ghost_clusters", ghost_clusters, at_least=0)
        self.clusters = clusters
        self.ghost_clusters = ghost_clusters

    def _add_weights(self, assigning: int | None, centres: int, size: int | None) -> None:
        """Add the kernel [assigning, K + G] and the bias of the assignment, and the centres [centres, size]."""
        all_clusters = self.clusters + self.ghost_clusters
        for name, shape, initializer in (
            ("kernel", (assigning, all_clusters), "orthogonal"),
            ("bias", (all_clusters,), "zeros"),
            ("centres", (centres, size), "orthogonal"),
        ):
            # `autocast=False`: weights stay float32 under mixed precision.
            setattr(self, name, self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "clusters": self.clusters, "ghost_clusters": self.ghost_clusters}


@keras.saving.register_keras_serializable(package="ser_tf")
class GhostVLAD(_Aggregation):
    """Aggregates the descriptors of an utterance into one embedding of unit norm (Zhong et al. 2018; paper, eq. 1).

    Each descriptor is softly assigned to `clusters + ghost_clusters` clusters:
    `assignment(m, k) = softmax_k(x(m) . kernel + bias)`. The residuals `sum_m assignment(m, k) * (x(m) - centre(k))`
    use only the real centres, so the share of a descriptor that goes to ghosts does not reach the embedding. Each
    cluster's residual is L2-normalised, then the whole vector. With `ghost_clusters=0` this is NetVLAD.

    Computed in float32 under every dtype policy.

    Example:

    >>> descriptors = np.random.normal(size=(2, 6, 512))
    >>> embedding, ghost_share = GhostVLAD(clusters=8, ghost_clusters=2)(descriptors, np.array([6, 4]))
    >>> embedding.shape, ghost_share.shape
    (TensorShape([2, 4096]), TensorShape([2, 6]))

    Args:
        clusters: Integer. K, clusters whose residuals form the embedding.
        ghost_clusters: Integer. G, clusters that only take part in the assignment.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        Descriptors `[batch, M, D]`, and `count`, int32 `[batch]`, the true number of descriptors.

    Output shape:
        The embedding `[batch, K * D]`, and the ghost share `[batch, M]`: the share of each descriptor that goes to
        ghosts, between 0 and 1, and 0 beyond `count`. Both float32.
    """

    def build(self, descriptors_shape: tuple[int | None, ...], count_shape: tuple[int | None, ...]) -> None:
        size = descriptors_shape[-1]
        self._add_weights(assigning=size, centres=self.clusters, size=size)

    def call(self, descriptors: Any, count: Any) -> tuple[Any, Any]:
        is_true = ops.expand_dims(_is_true(descriptors, count), -1)  # [B, M, 1]
        descriptors = ops.where(is_true, ops.cast(descriptors, "float32"), 0.0)
        log_assignment = ops.log_softmax(ops.matmul(descriptors, self.kernel) + self.bias, axis=-1)  # [B, M, K + G]
        ghosts = ops.exp(log_assignment[..., self.clusters :])
        ghost_share = ops.where(is_true[..., 0], ops.sum(ghosts, axis=-1), 0.0)

        # A cluster's residual is normalised, so its weights may be scaled: with the largest at 1, an utterance assigned
        # almost entirely to ghosts keeps a direction.
        log_assignment = ops.where(is_true, log_assignment[..., : self.clusters], -1e9)
        largest = ops.stop_gradient(ops.max(log_assignment, axis=1, keepdims=True))
        weights = ops.where(is_true, ops.exp(log_assignment - largest), 0.0)  # [B, M, K]

        weighted_sum = ops.matmul(ops.transpose(weights, (0, 2, 1)), descriptors)  # [B, K, D]
        residuals = weighted_sum - ops.expand_dims(ops.sum(weights, axis=1), -1) * self.centres
        residuals = _unit_norm(residuals)
        embedding = ops.reshape(residuals, (-1, residuals.shape[1] * residuals.shape[2]))
        return _unit_norm(embedding), ghost_share


@keras.saving.register_keras_serializable(package="ser_tf")
class VggvoxVLAD(_Aggregation):
    """GhostVLAD as in VGGVox (Xie et al., ICASSP 2019): descriptors are assigned by the map they come from.

    `assignment(m, k) = softmax_k(cells(m) . kernel + bias)`, a convolution over all frequencies. Each real cluster's
    residual `sum_m assignment(m, k) * (x(m) - centre(k))` is L2-normalised; the whole vector is not. The centres of the
    ghosts are not used.

    Computed in float32 under every dtype policy.

    Example:

    >>> descriptors, cells = np.random.normal(size=(2, 6, 512)), np.random.normal(size=(2, 6, 7 * 512))
    >>> residuals, ghost_share = VggvoxVLAD(clusters=8, ghost_clusters=2)(descriptors, cells, np.array([6, 4]))
    >>> residuals.shape, ghost_share.shape
    (TensorShape([2, 4096]), TensorShape([2, 6]))

    Args:
        clusters: Integer. K, clusters whose residuals form the output.
        ghost_clusters: Integer. G, clusters that only take part in the assignment.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        Descriptors `[batch, M, D]`, the cells of the map `[batch, M, frequency * channels]`, and `count`, int32
        `[batch]`, the true number of descriptors.

    Output shape:
        The residuals `[batch, K * D]`, and the ghost share `[batch, M]`, 0 beyond `count`. Both float32.
    """

    def build(
        self,
        descriptors_shape: tuple[int | None, ...],
        cells_shape: tuple[int | None, ...],
        count_shape: tuple[int | None, ...],
    ) -> None:
        all_clusters = self.clusters + self.ghost_clusters
        self._add_weights(assigning=cells_shape[-1], centres=all_clusters, size=descriptors_shape[-1])

    def call(self, descriptors: Any, cells: Any, count: Any) -> tuple[Any, Any]:
        is_true = ops.expand_dims(_is_true(descriptors, count), -1)  # [B, M, 1]
        descriptors = ops.where(is_true, ops.cast(descriptors, "float32"), 0.0)
        cells = ops.where(is_true, ops.cast(cells, "float32"), 0.0)
        scores = ops.matmul(cells, self.kernel) + self.bias
        assignment = ops.where(is_true, ops.softmax(scores, axis=-1), 0.0)  # [B, M, K + G]
        ghost_share = ops.sum(assignment[..., self.clusters :], axis=-1)
        weights = assignment[..., : self.clusters]
        weighted_sum = ops.matmul(ops.transpose(weights, (0, 2, 1)), descriptors)  # [B, K, D]
        residuals = weighted_sum - ops.expand_dims(ops.sum(weights, axis=1), -1) * self.centres[: self.clusters]
        residuals = unit_norm_from(residuals)
        return ops.reshape(residuals, (-1, residuals.shape[1] * residuals.shape[2])), ghost_share


@keras.saving.register_keras_serializable(package="ser_tf")
class Cosines(keras.layers.Layer):
    """Cosine of the angle between each embedding and a learned direction for each class.

    Example:

    >>> Cosines(3)(np.eye(4)[:2]).shape
    TensorShape([2, 3])

    Args:
        classes: Integer. Number of classes.
        **kwargs: Base layer keyword arguments, such as `name` and `dtype`.

    Input shape:
        `[batch, size]`, of unit norm.

    Output shape:
        `[batch, classes]`, float32.
    """

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        _expect_integer("classes", classes, at_least=1)
        self.classes = classes

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.kernel = self.add_weight(name="kernel", shape=(self.classes, input_shape[-1]))

    def call(self, inputs: Any) -> Any:
        return ops.matmul(inputs, ops.transpose(_unit_norm(self.kernel)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}


def unit_norm_from(vectors: Any) -> Any:
    """Vectors along the last axis scaled to L2 norm 1; those shorter than 1e-6 are multiplied by 1e6, as in Keras 2."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * ops.rsqrt(ops.maximum(square, _SMALLEST_NORM**2))


def _is_true(inputs: Any, frames: Any) -> Any:
    """Whether each time step of `inputs` [B, T, ...] is not padding: bool [B, T]."""
    return ops.arange(ops.shape(inputs)[1], dtype="int32") < ops.cast(frames, "int32")[:, None]


def _unit_norm(vectors: Any) -> Any:
    """Vectors along the last axis scaled to L2 norm 1; a zero vector stays zero, with zero gradient."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    is_zero = square < _SMALLEST_NORM**2
    # The inner `where` keeps the derivative of the root finite, the outer one discards it.
    return ops.where(is_zero, 0.0, vectors / ops.sqrt(ops.where(is_zero, 1.0, square)))


def _expect_integer(name: str, value: int, at_least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(
            f"Invalid value for `{name}` argument: expected an integer of at least {at_least}. Received: {name}={value}"
        )
