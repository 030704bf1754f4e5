"""SE-ResNet-34 with GhostVLAD: spectrogram -> embedding (paper, sections 3.1 and 3.2; Xie et al., ICASSP 2019).

Maps are [batch, time, frequency, channels], so the paper's 7 x 1 (frequency x time) kernel is (1, 7) here.

An utterance's embedding does not depend on its padding:

- Strided layers pad on fixed sides and then run `valid`, so their phase is that of the first frame.
- `frames` carries the true length: strided convolutions round it up, pools down.
- Operations that mix time steps use only true frames: the 7x7 and 3x3 convolutions read a masked input,
  squeeze-and-excitation and GhostVLAD use the true length.
- 1x1 convolutions, pools and batch normalisation do not mix padding with true frames. They need no mask, which would
  cost a pass over the memory, the bottleneck on a CPU.
- In training, batch normalisation takes its statistics over the whole batch. Crops of one length have no padding.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
from keras import layers

from ser_tf.config import SAMPLE_RATE_HZ, Config, NetworkConfig
from ser_tf.errors import UserError
from ser_tf.network.batch_normalisation import FusedBatchNormalization
from ser_tf.network.layers import (
    Cosines,
    GhostVLAD,
    MinimumTime,
    SqueezeExcitation,
    TimeMask,
    VggvoxVLAD,
)
from ser_tf.network.vggvox import vggvox_embedding


class Stage(NamedTuple):
    """One row of the architecture: `blocks` blocks of 1x1, 3x3 (both `narrow`) and 1x1 (`wide`) convolutions."""

    narrow: int
    wide: int
    blocks: int
    stride: int


STEM_CHANNELS = 64
STAGES = (
    Stage(narrow=48, wide=96, blocks=2, stride=1),
    Stage(narrow=96, wide=128, blocks=3, stride=2),
    Stage(narrow=128, wide=256, blocks=3, stride=2),
    Stage(narrow=256, wide=512, blocks=3, stride=2),
)
"""At width 1. A stage's stride applies to its first block, in time and frequency."""

SOFTMAX_HEAD = "softmax_head"
"""Name of the layer that `with_softmax_head` adds; it can be saved separately."""

COSINE_HEAD = "cosine_head"
"""Name of the layer that `with_cosine_head` adds."""

BATCH_NORM_MOMENTUM = 0.9
"""A fine-tuning epoch has about 36 steps: with Keras's 0.99 the moving statistics would lag two epochs behind."""


def embedding_network(config: NetworkConfig, bins: int = 257) -> keras.Model:
    """The network from spectrograms to embeddings.

    Example:

    >>> network = embedding_network(NetworkConfig())
    >>> outputs = network({"spectrogram": np.zeros((1, 197, 257)), "frames": np.array([197])})
    >>> outputs["embedding"].shape, outputs["ghost_share"].shape
    (TensorShape([1, 4096]), TensorShape([1, 6]))

    Args:
        config: Width, strides, descriptors and clusters.
        bins: Frequency bins of a spectrogram frame.

    Returns:
        A model. Inputs: a dict of `spectrogram`, float32 [batch, T, bins], and `frames`, int32 [batch], the true number
        of frames. Outputs: a dict of `embedding`, float32 [batch, clusters * descriptor_size] of unit norm (with the
        aggregation `vggvox` [batch, descriptor_size]), and `ghost_share`, float32 [batch, M], the share of each
        descriptor that goes to ghosts, 0 beyond the utterance's `descriptor_count`. T and M are dynamic.

    Raises:
        UserError: a parameter of `config` is out of range, or there are too few bins for the strides.
    """
    return _network(config, bins, time=None)


def with_softmax_head(network: keras.Model, classes: int, units: int) -> keras.Model:
    """The network with a classifier on its embedding: Dense `units` ReLU, Dense `classes`.

    Args:
        network: From `embedding_network`; its layers are shared, not copied.
        classes: Number of classes.
        units: Hidden units.

    Returns:
        A model with the same inputs and the additional output `logits`, float32 [batch, classes].
    """
    size = network.output["embedding"].shape[-1]
    head = keras.Sequential(
        [
            keras.Input((size,)),
            layers.Dense(units, activation="relu", kernel_initializer="he_normal", name="hidden"),
            layers.Dense(classes, dtype="float32", name="class_scores"),
        ],
        name=SOFTMAX_HEAD,
    )
    logits = head(network.output["embedding"])
    return keras.Model(network.input, {**network.output, "logits": logits}, name=f"{network.name}_softmax")


def with_cosine_head(network: keras.Model, classes: int) -> keras.Model:
    """The network with the cosines between its embedding and a learned direction for each class.

    Args:
        network: From `embedding_network`; its layers are shared, not copied.
        classes: Number of classes.

    Returns:
        A model with the same inputs and the additional output `cosines`, float32 [batch, classes].
    """
    cosines = Cosines(classes, name=COSINE_HEAD)(network.output["embedding"])
    return keras.Model(network.input, {**network.output, "cosines": cosines}, name=f"{network.name}_cosine")


def without_padding(network: keras.Model) -> keras.Model:
    """The same network without time masks, for batches without padding such as training crops; it is faster.

    Args:
        network: From `embedding_network`, with a head or without; its layers are shared, not copied.

    Returns:
        A model with the same inputs and outputs.
    """

    def call(layer: keras.layers.Layer, *inputs: Any, **arguments: Any) -> Any:
        if isinstance(layer, TimeMask):
            return inputs[0]
        if isinstance(layer, SqueezeExcitation):
            return layer(inputs[0])
        return layer(*inputs, **arguments)

    return keras.models.clone_model(network, clone_function=lambda layer: layer, call_function=call)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Networks built in this context compute in that precision: float32, mixed_float16 or mixed_bfloat16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def descriptor_count(frames: Any, config: NetworkConfig) -> Any:
    """Number M of descriptors of an utterance of `frames` spectrogram frames: about one per 32, and at least one.

    Both are an int, or int32 tensors [B].
    """
    count = _before_final_pool(frames, config) // config.final_pool_time_stride
    return max(1, count) if isinstance(count, int) else keras.ops.maximum(1, count)


def frames_per_descriptor(config: NetworkConfig) -> int:
    """Spectrogram frames from one descriptor to the next: the product of all strides in time, 32 in the paper."""
    strides = (stage.stride for stage in STAGES)
    return config.stem_stride * 2 * math.prod(strides) * config.final_pool_time_stride


def minimum_frames(config: NetworkConfig) -> int:
    """Minimum number of spectrogram frames for a descriptor; shorter utterances are padded to it."""
    return next(
        frames for frames in itertools.count(1) if _before_final_pool(frames, config) >= config.final_pool_time_stride
    )


@dataclass(frozen=True)
class NetworkSummary:
    """Size of a network, and its cost for an utterance of `seconds`."""

    seconds: float
    frames: int
    """Spectrogram frames T."""
    descriptors: int
    """M."""
    embedding_size: int
    """K x D; D with the aggregation `vggvox`."""
    parameters: int
    """Trainable parameters, without the softmax head."""
    multiply_adds: int
    """Of the convolutions, the dense layers and GhostVLAD, without the softmax head."""


def describe(config: Config, seconds: float = 2.0) -> NetworkSummary:
    """Size and cost of the network of `config` for an utterance of `seconds` of speech."""
    frames = max(1, config.spectrogram.frames(round(seconds * SAMPLE_RATE_HZ)))
    network = _network(config.network, config.spectrogram.bins, time=frames)
    return NetworkSummary(
        seconds=seconds,
        frames=frames,
        descriptors=descriptor_count(frames, config.network),
        embedding_size=network.output["embedding"].shape[-1],
        parameters=sum(math.prod(weight.shape) for weight in network.trainable_weights),
        multiply_adds=sum(_multiply_adds(layer) for layer in network.layers),
    )


def _network(config: NetworkConfig, bins: int, time: int | None) -> keras.Model:
    _check(config, bins)
    spectrogram = keras.Input((time, bins), dtype="float32", name="spectrogram")
    true_frames = keras.Input((), dtype="int32", name="frames")

    maps = TimeMask(name="input_mask")(spectrogram, true_frames)
    maps = MinimumTime(minimum_frames(config), name="minimum_time")(maps)
    frames = keras.ops.maximum(true_frames, minimum_frames(config))
    maps = layers.Reshape((-1, bins, 1), name="image")(maps)  # [B, T, F, 1]

    # Padding the single input channel is cheap; padding later maps would copy them.
    maps = layers.ZeroPadding2D(3, name="stem_pad")(maps)
    maps = _convolution(maps, _channels(STEM_CHANNELS, config), 7, "stem", stride=config.stem_stride)
    maps = layers.ReLU(name="stem_relu")(maps)
    maps = layers.MaxPooling2D(2, name="stem_pool")(maps)
    frames = _rounded_up(frames, config.stem_stride) // 2

    for number, stage in enumerate(STAGES, start=1):
        frames = _rounded_up(frames, stage.stride)
        for block in range(1, stage.blocks + 1):
            maps = _block(maps, frames, stage, config, is_first=block == 1, name=f"stage{number}_block{block}")

    if config.final_pool_time_stride > 1:
        # Without the last step, a pool of window 1 rounds down.
        maps = layers.Cropping2D(((0, config.final_pool_time_stride - 1), (0, 0)), name="final_crop")(maps)
    maps = layers.MaxPooling2D((1, 3), strides=(config.final_pool_time_stride, 2), name="final_pool")(maps)
    count = frames // config.final_pool_time_stride

    embedding_of = {"ghost_vlad": _ghost_vlad_embedding, "vggvox": vggvox_embedding}[config.aggregation]
    embedding, ghost_share = embedding_of(maps, count, config)
    return keras.Model(
        {"spectrogram": spectrogram, "frames": true_frames},
        {"embedding": embedding, "ghost_share": ghost_share},
        name="se_resnet_34",
    )


def _ghost_vlad_embedding(maps: Any, count: Any, config: NetworkConfig) -> tuple[Any, Any]:
    # The kernel spans all remaining frequencies: 7 bins in the paper.
    maps = layers.Conv2D(
        config.descriptor_size,
        (1, maps.shape[2]),
        activation="relu",
        kernel_initializer="he_normal",
        name="descriptor_convolution",
    )(maps)
    descriptors = layers.Reshape((-1, config.descriptor_size), name="descriptors")(maps)  # [B, M, D]
    return GhostVLAD(config.clusters, config.ghost_clusters, name="ghost_vlad")(descriptors, count)


def _block(maps: Any, frames: Any, stage: Stage, config: NetworkConfig, is_first: bool, name: str) -> Any:
    """A bottleneck block, with or without squeeze-and-excitation; `frames` is the true length of its output."""
    narrow, wide = _channels(stage.narrow, config), _channels(stage.wide, config)
    stride = stage.stride if is_first else 1
    shortcut = _convolution(maps, wide, 1, f"{name}_project", stride=stride) if is_first else maps

    maps = _convolution(maps, narrow, 1, f"{name}_reduce", stride=stride)
    maps = layers.ReLU(name=f"{name}_reduce_relu")(maps)
    maps = TimeMask(name=f"{name}_mask")(maps, frames)
    maps = _convolution(maps, narrow, 3, f"{name}_mix", padding="same")
    maps = layers.ReLU(name=f"{name}_mix_relu")(maps)
    maps = _convolution(maps, wide, 1, f"{name}_expand")
    if config.squeeze_reduction > 0:
        maps = SqueezeExcitation(config.squeeze_reduction, name=f"{name}_squeeze_excitation")(maps, frames)
    maps = layers.Add(name=f"{name}_add")([maps, shortcut])
    return layers.ReLU(name=f"{name}_relu")(maps)


def _convolution(maps: Any, channels: int, kernel: int, name: str, stride: int = 1, padding: str = "valid") -> Any:
    maps = layers.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(maps)
    return FusedBatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_norm")(maps)


def _channels(at_width_1: int, config: NetworkConfig) -> int:
    return math.ceil(at_width_1 * config.width / config.channel_multiple) * config.channel_multiple


def _rounded_up(size: Any, stride: int) -> Any:
    """Length after a strided convolution, an int or a tensor."""
    return size if stride == 1 else (size + stride - 1) // stride


def _before_final_pool(size: Any, config: NetworkConfig) -> Any:
    """Remaining frames or bins of `size` before the last pool."""
    size = _rounded_up(size, config.stem_stride) // 2
    for stage in STAGES:
        size = _rounded_up(size, stage.stride)
    return size


def _multiply_adds(layer: keras.Layer) -> int:
    """Multiply-adds of a layer in a network with static time."""
    if isinstance(layer, layers.Conv2D):
        _, time, frequency, _ = layer.output.shape
        return time * frequency * math.prod(layer.kernel.shape)
    if isinstance(layer, SqueezeExcitation):
        return math.prod(layer.squeeze.kernel.shape) + math.prod(layer.excite.kernel.shape)
    if isinstance(layer, layers.Dense):
        return math.prod(layer.kernel.shape)
    if isinstance(layer, GhostVLAD | VggvoxVLAD):
        descriptors = layer.input[0].shape[1]
        return descriptors * (math.prod(layer.kernel.shape) + math.prod(layer.centres.shape))
    return 0


def _check(config: NetworkConfig, bins: int) -> None:
    for name in ("stem_stride", "final_pool_time_stride"):
        if getattr(config, name) not in (1, 2):
            raise UserError(f"network: expected {name} 1 or 2. Received: {name}={getattr(config, name)}")
    if _before_final_pool(bins, config) < 3:
        fewest = next(size for size in itertools.count(1) if _before_final_pool(size, config) >= 3)
        raise UserError(
            f"network: expected at least {fewest} frequency bins with stem_stride={config.stem_stride}; raise "
            f"fft_samples. Received: bins={bins}"
        )
