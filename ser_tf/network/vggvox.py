"""The layers of VGGVox after its residual blocks (Xie et al., ICASSP 2019).

VGGVox is the ancestor of the paper's network. Its blocks are the same without squeeze-and-excitation
(`NetworkConfig.squeeze_reduction` 0); docs/pretraining.md lists all differences.
"""

from typing import Any

from keras import layers

from ser_tf.config import NetworkConfig
from ser_tf.network.layers import VggvoxVLAD, unit_norm_from


def vggvox_embedding(maps: Any, count: Any, config: NetworkConfig) -> tuple[Any, Any]:
    """Map -> descriptors -> VLAD with assignment by the map -> dense layer -> embedding.

    Args:
        maps: [batch, M, frequency, channels], after the last pool.
        count: int32 [batch], the true number of descriptors.
        config: descriptors and clusters.

    Returns:
        The embedding, float32 [batch, descriptor_size], the direction of the dense layer's output: unit norm, or zero
        if no unit is active; and the ghost share, float32 [batch, M].
    """
    _, _, bins, channels = maps.shape
    descriptors = layers.Conv2D(
        config.descriptor_size,
        (1, bins),
        activation="relu",
        kernel_initializer="he_normal",
        name="descriptor_convolution",
    )(maps)
    residuals, ghost_share = VggvoxVLAD(config.clusters, config.ghost_clusters, name="ghost_vlad")(
        layers.Reshape((-1, config.descriptor_size), name="descriptors")(descriptors),
        layers.Reshape((-1, bins * channels), name="cells")(maps),
        count,
    )
    hidden = layers.Dense(
        config.descriptor_size, activation="relu", kernel_initializer="he_normal", dtype="float32", name="dense"
    )(residuals)
    return unit_norm_from(hidden), ghost_share
