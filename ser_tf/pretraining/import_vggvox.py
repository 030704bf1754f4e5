"""Import the published weights of VGGVox (Xie et al., ICASSP 2019) as a start for fine-tuning.

Keras 2 wrote them for the `resnet34s` of WeidiXie/VGG-Speaker-Recognition. Its maps are [frequency, time], so kernels
are transposed. The preset `vggvox` takes everything except the classifier of VoxCeleb2's speakers. A network with
squeeze-and-excitation takes the blocks, the descriptors and the real centres. Its new gates start at 0.5 and the batch
normalisation before each is doubled: every block computes what it did in VGGVox, and the gates can learn at once.
"""

import hashlib
from pathlib import Path

import h5py
import keras
import numpy as np

from ser_tf.config import PRESETS, Config, NetworkConfig
from ser_tf.errors import UserError
from ser_tf.network.layers import SqueezeExcitation
from ser_tf.network.se_resnet import STAGES, embedding_network
from ser_tf.runs.weights import ArrayFate, method_of, open_hdf5, save_weights

SOURCE = "WeidiXie/VGG-Speaker-Recognition, resnet34s (Xie, Nagrani, Chung, Zisserman, ICASSP 2019)"
LICENCE = "CC BY 4.0"
"""By the link in the source's README, whose text says Attribution-ShareAlike."""
SPEAKERS = ("voxceleb2:*",)
"""The file does not name them, so the whole corpus counts as trained on."""

_CONVOLUTIONS = {"stem": "conv1_1/3x3_s1"} | {
    f"stage{number}_block{block + 1}_{ours}": f"conv{number + 1}_{'abc'[block]}_{theirs}"
    for number, stage in enumerate(STAGES, start=1)
    for block in range(stage.blocks)
    for ours, theirs in {"reduce": "1x1_reduce", "mix": "3x3", "expand": "1x1_increase", "project": "1x1_proj"}.items()
}
_LAYERS = (
    _CONVOLUTIONS
    | {f"{ours}_norm": f"{theirs}/bn" for ours, theirs in _CONVOLUTIONS.items()}
    | {"descriptor_convolution": "x_fc", "dense": "fc6"}
)
"""Our name of a layer -> its name in the file."""
_ASSIGNMENT = {
    "ghost_vlad/kernel": "gvlad_center_assignment/kernel",
    "ghost_vlad/bias": "gvlad_center_assignment/bias",
}
_CENTRES = {"ghost_vlad/centres": "gvlad_pool/centers"}

Arrays = dict[str, np.ndarray]
"""By layer and array in the file, such as "fc6/kernel"."""


def import_vggvox(weights: Path, out: Path, config: Config = PRESETS["vggvox"]) -> list[ArrayFate]:
    """Write the published weights as a start for `finetune --weights`, with their provenance.

    Args:
        weights: HDF5 file of VGG-Speaker-Recognition, either weights or a whole model.
        out: file to write; it must end in `.weights.h5`.
        config: configuration of the network that takes them: a preset, or `paper` with a different spectrogram.

    Returns:
        The fate of each array: first those of the network, then those that only the file has.

    Raises:
        UserError: `out` has a different ending or exists, or `weights` is missing, not HDF5, or of a different network.
    """
    if not out.name.endswith(".weights.h5"):
        raise UserError(f"{out}: expected a name that ends in .weights.h5")
    if out.exists():
        raise UserError(f"{out}: expected a new file; remove it or choose another name")
    stored = _read(weights)
    keras.utils.set_random_seed(0)  # layers that start afresh get the same values in every import
    network = embedding_network(config.network, config.spectrogram.bins)
    fates = _take(network, config.network, stored, weights)
    _open_gates(network)
    save_weights(
        network,
        out,
        {
            "speakers": list(SPEAKERS),
            "source": SOURCE,
            "licence": LICENCE,
            "imported_from": {
                "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()[:16],
                "method": method_of(PRESETS["vggvox"]),
                "afresh": sorted({fate.layer for fate in fates if fate.fate == "afresh"}),
            },
            "method": method_of(config),
        },
    )
    return fates


def _read(path: Path) -> Arrays:
    if not path.is_file():
        raise UserError(f"{path}: expected the weights of VGG-Speaker-Recognition (.h5); there is no such file")
    try:
        with open_hdf5(path) as file:
            layers = file.get("model_weights", file)
            return {
                f"{layer}/{name.rpartition('/')[2].removesuffix(':0')}": layers[layer][name][()]
                for layer in _names(layers, "layer_names")
                for name in _names(layers[layer], "weight_names")
            }
    except UserError:
        raise
    except Exception as error:  # HDF5 raises many kinds of error for damage
        raise UserError(
            f"{path}: expected an HDF5 file with the layers of a Keras 2 network, such as VGG-Speaker-Recognition's "
            f"weights.h5. Received: a different or damaged file: {error}"
        ) from error


def _names(group: h5py.Group, attribute: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else name for name in group.attrs[attribute]]


def _take(network: keras.Model, config: NetworkConfig, stored: Arrays, path: Path) -> list[ArrayFate]:
    """Assign the file's arrays to the network; return the fate of each."""
    counterparts = _CENTRES | (_ASSIGNMENT if config.aggregation == "vggvox" else {})
    fates, taken, used = [], [], set()
    for variable in network.weights:
        layer, _, array = variable.path.partition("/")
        shape = tuple(variable.shape)
        name = counterparts.get(variable.path) or (f"{_LAYERS[layer]}/{array}" if layer in _LAYERS else None)
        if name is None:
            reason = "VGGVox has no squeeze-and-excitation"
            if variable.path in _ASSIGNMENT:
                reason = "VGGVox assigns by the map rather than by the descriptors"
            fates.append(ArrayFate(variable.path, None, shape, "afresh", reason))
            continue
        if name not in stored:
            raise UserError(
                f"{path}: expected the resnet34s of VGG-Speaker-Recognition with GhostVLAD; it has no {name}"
            )
        value = _as_ours(variable.path, stored[name], config)
        if value.shape != shape:
            raise UserError(
                f"{path}: expected the resnet34s of VGG-Speaker-Recognition, with 8 clusters, 2 ghosts and descriptors "
                f"of 512. Received: {name} of shape {stored[name].shape}, for {variable.path} of shape {shape}"
            )
        taken.append((variable, value))
        used.add(name)
        fates.append(ArrayFate(variable.path, stored[name].shape, shape, "taken"))
    for variable, value in taken:
        variable.assign(value)
    unused = [name for name in stored if name not in used]
    return fates + [ArrayFate(name, stored[name].shape, None, "refused", "this network has none") for name in unused]


def _as_ours(name: str, value: np.ndarray, config: NetworkConfig) -> np.ndarray:
    """An array of the file in the shape of ours."""
    if value.ndim == 4:
        value = value.swapaxes(0, 1)  # frequency and time of a kernel
    if name in _ASSIGNMENT:
        return value.reshape(-1, value.shape[-1]) if value.ndim == 4 else value
    if name in _CENTRES and config.aggregation != "vggvox" and len(value) == config.clusters + config.ghost_clusters:
        return value[: config.clusters]  # our ghosts have no centres
    return value


def _open_gates(network: keras.Model) -> None:
    """Start every squeeze-and-excitation at a factor of 0.5, and double the maps it scales."""
    for gate in network.layers:
        if isinstance(gate, SqueezeExcitation):
            for array in (gate.excite.kernel, gate.excite.bias):
                array.assign(keras.ops.zeros_like(array))
            norm = network.get_layer(gate.name.replace("squeeze_excitation", "expand_norm"))
            for array in (norm.gamma, norm.beta):
                array.assign(2 * array)
