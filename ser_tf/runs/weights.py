"""Weights that travel between runs; the file records the speakers, recordings and input they were trained on."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import keras
import numpy as np

from ser_tf.config import Config
from ser_tf.documents import parse_json
from ser_tf.errors import UserError, first_line
from ser_tf.runs.folder import misfit_of_start
from ser_tf.spelling import voice

PROVENANCE = "ser_tf_provenance"
"""HDF5 attribute that holds the provenance as JSON."""
RECORDINGS = "ser_tf_recordings"
"""HDF5 data set with the sample hashes of all training recordings: uint64, sorted, 8 MB per million."""
MOST_HDF5_OBJECTS = 100_000
"""Groups and arrays of one file; the paper's network has about 500."""
HDF5_BYTES_PER_ARRAY = 4096
"""Upper bound on what HDF5 adds to an array for names and groups."""
AFRESH: dict[str, tuple[str, ...]] = {
    "network.clusters": ("ghost_vlad",),
    "network.ghost_clusters": ("ghost_vlad",),
    "network.descriptor_size": ("descriptor_convolution", "ghost_vlad"),
}
"""Parameters that may differ from the weights' own, and the layers that then start afresh."""


@dataclass(frozen=True)
class ArrayFate:
    """What happens to one array when weights start a network.

    Attributes:
        name: layer and array, such as "ghost_vlad/kernel"; arrays that only the file has end in a number.
        in_file: its shape in the file; None if the file lacks it.
        in_network: its shape in the network; None if the network lacks it.
        fate: taken from the file, initialised afresh, or refused.
        reason: why it is not taken; otherwise empty.
    """

    name: str
    in_file: tuple[int, ...] | None
    in_network: tuple[int, ...] | None
    fate: Literal["taken", "afresh", "refused"]
    reason: str = ""

    @property
    def layer(self) -> str:
        """The outermost layer of the network that holds it."""
        return self.name.split("/")[0]


def save_weights(
    network: keras.Model, path: Path, provenance: dict[str, Any], recordings: np.ndarray | None = None
) -> None:
    """Write the network's weights (`.weights.h5`) and their provenance, atomically.

    Args:
        network: an embedding network, or its head.
        path: ends in `.weights.h5`.
        provenance: JSON values; `speakers` lists the speakers that the network was trained on as `corpus:id`, where
            "voxceleb2:*" stands for a whole corpus, and `method` is its `method_of`.
        recordings: [N], the sample hash of each training recording; None if unknown.
    """
    hashes = None if recordings is None else np.unique(recordings.astype(np.uint64))
    unfinished = path.with_name(f"unfinished-{path.name}")
    text = json.dumps(provenance)
    size = sum(np.asarray(weight).nbytes + HDF5_BYTES_PER_ARRAY for weight in network.weights) + len(text)
    size += 0 if hashes is None else hashes.nbytes
    unfinished.write_bytes(bytes(size))  # raises if the disk is full; HDF5 would crash
    network.save_weights(unfinished)
    with h5py.File(unfinished, "a") as file:
        file.attrs[PROVENANCE] = text
        if hashes is not None:
            file.create_dataset(RECORDINGS, data=hashes)
    unfinished.replace(path)


def save_network(network: keras.Model, path: Path) -> None:
    """Write a network with its weights (`.keras`), atomically, for `keras.models.load_model`."""
    unfinished = path.with_name(f"unfinished-{path.name}")
    network.save(unfinished)
    unfinished.replace(path)


def load_weights(network: keras.Model, path: Path) -> None:
    """Load all of the file's weights into the network.

    Keras's own `load_weights` finds layers by their class, so it cannot read files from before a class was replaced.

    Raises:
        UserError: the file is missing, damaged, or from a different network.
    """
    take_weights(network, path)


def take_weights(network: keras.Model, path: Path, afresh: Collection[str] = ()) -> list[ArrayFate]:
    """Start the network from the file's weights; the layers in `afresh` keep their initial values.

    Layers are matched by name, so the file may be from a network with additional layers.

    Args:
        network: an embedding network, newly initialised.
        path: written by `save_weights`.
        afresh: names of layers that are not taken, whether they fit or not.

    Returns:
        The fate of each array, in the order of the network.

    Raises:
        UserError: the file is missing or damaged, or an array outside `afresh` does not fit; nothing is taken then.
    """
    stored = _read_arrays(path)
    _require_finite(path, stored.values())
    variables = _variables_by_place(network)
    fates = []
    for place in [*variables, *(place for place in stored if place not in variables)]:
        in_file = stored[place].shape if place in stored else None
        in_network = tuple(variables[place].shape) if place in variables else None
        name = variables[place].path if place in variables else place
        is_afresh = place.split("/")[0] in afresh
        if in_network is None:
            fates.append(ArrayFate(name, in_file, in_network, "refused", "this network has no such array"))
        elif in_file == in_network and not is_afresh:
            fates.append(ArrayFate(name, in_file, in_network, "taken"))
        else:
            reason = "its layer starts afresh"
            if in_file != in_network:
                reason = f"{_by(in_file)} in the file, {_by(in_network)} in this network"
            fates.append(ArrayFate(name, in_file, in_network, "afresh" if is_afresh else "refused", reason))
    refused = [fate for fate in fates if fate.fate == "refused" and fate.layer not in afresh]
    if refused:
        raise UserError(
            f"{path}: {len(refused)} of {len(fates)} arrays do not fit this network, such as {refused[0].name}: "
            f"{refused[0].reason}; choose the preset and options of the run that wrote them"
        )
    for (place, variable), fate in zip(variables.items(), fates, strict=False):
        if fate.fate == "taken":
            variable.assign(stored[place])
    return fates


def table_of_fates(fates: Sequence[ArrayFate]) -> str:
    """One line per part of the network: how many arrays were taken, initialised afresh or refused, and why."""
    groups: dict[tuple[str, str], list[ArrayFate]] = {}
    for fate in fates:
        part = fate.layer.partition("_block")[0].removesuffix("_norm")
        groups.setdefault((part, fate.fate), []).append(fate)
    if len({what for _, what in groups}) == 1:
        return f"all {len(fates)} arrays {fates[0].fate}"
    width = max(len(part) for part, _ in groups)
    lines = []
    for (part, what), members in groups.items():
        # Give the reason that caused the others: an array that does not fit.
        reasons = [f"{member.name}: {member.reason}" for member in members if member.in_file != member.in_network]
        why = f" ({(reasons or [members[0].reason])[0]})" if what != "taken" else ""
        lines.append(f"{part:<{width}} {len(members):4d} {what}{why}")
    return "\n".join(lines)


def read_provenance(path: Path) -> dict[str, Any]:
    """The provenance that `save_weights` wrote, and `sha256`, the first 16 digits of the file's hash.

    Older files list no recordings (`read_recordings` returns None). Their speakers have the same form, `corpus:id` with
    the corpus of the run that wrote them (`ravdess`, `crema_d`, `synthetic`, or `table` for any table).

    Raises:
        UserError: the file is missing, is not HDF5, or does not name its training speakers and method.
    """
    expected = "which list the speakers they were trained on; give the embedding.weights.h5 of a run"
    with _opened(path, f"weights written by ser-tf, {expected}") as file:
        provenance = parse_json(_text(file.attrs, PROVENANCE))
        known = {"speakers": list(provenance["speakers"]), "method": dict(provenance["method"])}
        if misfit_of_start(provenance) or not all(":" in speaker for speaker in known["speakers"]):
            raise ValueError("a speaker without its corpus")
    return provenance | known | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def read_recordings(path: Path) -> np.ndarray | None:
    """Sample hashes of the training recordings, uint64, sorted; None if the file lists none.

    Raises:
        UserError: the file is missing or not HDF5.
    """
    with _opened(path, "weights written by ser-tf") as file:
        if RECORDINGS not in file:
            return None
        recordings = file[RECORDINGS]
        if not isinstance(recordings, h5py.Dataset) or (recordings.dtype, recordings.ndim) != (np.uint64, 1):
            raise ValueError(f"expected hashes of recordings, uint64 [N]. Received: {recordings!r}")
        return recordings[()]


def refuse_leak(path: Path, speakers: Iterable[str], recordings: Mapping[int, str]) -> None:
    """Refuse weights trained on a speaker or a recording of the validation or test side, in any corpus.

    Args:
        path: the weights. Older files list only speakers; only those are checked.
        speakers: speakers that the weights must not have been trained on, as `corpus:id`.
        recordings: sample hash of each recording that they must not have been trained on -> its name.

    Raises:
        UserError: they were; the message names the first such speakers or recordings.
    """
    trained_on = read_recordings(path)
    held_out = np.fromiter(recordings, np.uint64)
    shared = held_out[:0] if trained_on is None else np.intersect1d(trained_on, held_out)
    for what, names in (
        ("speakers", _shared(read_provenance(path)["speakers"], speakers)),
        ("recordings", sorted(recordings[int(sample_hash)] for sample_hash in shared)),
    ):
        if names:
            raise UserError(
                f"{path}: these weights were trained on {len(names)} of the fold's validation and test {what} "
                f"({', '.join(names[:3])}{', ...' if len(names) > 3 else ''}); give weights trained on the same fold's "
                "training speakers or on another corpus"
            )


def method_of(config: Config) -> dict[str, Any]:
    """The parameters that the weights depend on: spectrogram and network, without the softmax head."""
    rooms = {"spectrogram": dataclasses.asdict(config.spectrogram), "network": dataclasses.asdict(config.network)}
    return {
        f"{room}.{name}": value
        for room, parameters in rooms.items()
        for name, value in parameters.items()
        if name != "head_units"
    }


def layers_afresh(
    provenance: dict[str, Any], config: Config, path: Path, compared: Collection[str] = ()
) -> tuple[str, ...]:
    """The layers that start afresh because the weights were trained with different values of `AFRESH`.

    Weights trained on a different spectrogram or with a different network are refused even if the shapes fit.

    Args:
        provenance: of the weights.
        config: of the network.
        path: of the weights.
        compared: parameters whose values are being compared. Their layers start afresh for every value, so that the
            value in the weights has no head start.

    Returns:
        Names for `take_weights`, sorted; none if the weights fit completely.

    Raises:
        UserError: any other parameter differs; the message names the first.
    """
    defaults = method_of(Config())  # for parameters newer than the weights
    layers = {layer for name in compared for layer in AFRESH.get(name, ())}
    for name, value in method_of(config).items():
        before = provenance["method"].get(name, defaults[name])
        if before == value:
            continue
        if name not in AFRESH:
            raise UserError(
                f"{path}: these weights were trained with {name} {before}, and this run has {value}; choose the preset "
                "and options of the run that wrote them"
            )
        layers.update(AFRESH[name])
    return tuple(sorted(layers))


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Every array of a file by layer and index, such as "stem_norm/0"."""
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if not isinstance(item, h5py.Dataset) or name == RECORDINGS:
            return
        *groups, _, number = name.split("/")  # such as layers/batch_normalization/vars/0
        above = ["/".join([*groups[: depth + 1], "vars"]) for depth in range(len(groups))]
        layers = [_text(file[group].attrs, "name") for group in above if group in file]
        arrays["/".join([*layers, number])] = item[()]

    cause = "the file is damaged or was written with a Keras older than 3.9"
    with _opened(path, f"weights whose layers are named, as ser-tf writes them; {cause}") as file:
        file.visititems(visit)
    return arrays


@contextmanager
def _opened(path: Path, expected: str) -> Iterator[h5py.File]:
    """`open_hdf5`; every error inside becomes a `UserError`."""
    try:
        with open_hdf5(path) as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # HDF5 raises many kinds
        raise UserError(f"{path}: expected {expected}. {first_line(error)}") from error


@contextmanager
def open_hdf5(path: Path) -> Iterator[h5py.File]:
    """Open a file of arrays after checking that reading them reads only this file, and no more than its size.

    Raises:
        UserError: there is no such file; it is not HDF5 or is damaged; or it has links, external data, objects that are
            not numbers, or arrays that claim more than its size.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a file of weights (.weights.h5); there is none")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(h5py.File(path))
            problem = _foreign(file, path.stat().st_size)
        except Exception as error:  # HDF5 has many words for damage
            raise UserError(
                f"{path}: expected a file of weights in HDF5. Received: {first_line(error)}; restore it or "
                "fetch it again"
            ) from error
        if problem:
            raise UserError(
                f"{path}: expected nothing but arrays of numbers in the file itself. Received: {problem}; choose "
                "other weights"
            )
        yield file


def _require_finite(path: Path, arrays: Iterable[np.ndarray]) -> None:
    if not all(bool(np.isfinite(array).all()) for array in arrays):
        raise UserError(f"{path}: expected finite weights. Received: NaN or Inf among them; train again")


def _foreign(file: h5py.File, size: int) -> str:
    """The first object that does not belong into a weights file or claims more than its size; empty without one.

    It reads no array, and follows no link before knowing that it stays within the file.
    """
    seen = {h5py.h5o.get_info(file.id).addr}
    groups: list[h5py.Group] = [file]
    while groups:
        group = groups.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                return f"a link in place of {name}"
            item = group[name]
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:
                return f"a second name of {item.name}"
            seen.add(place)
            if len(seen) > MOST_HDF5_OBJECTS:
                return f"more than {MOST_HDF5_OBJECTS:,} groups and arrays"
            if isinstance(item, h5py.Group):
                groups.append(item)
                continue
            if not isinstance(item, h5py.Dataset):
                return f"a type, {item.name}"
            layout = item.id.get_create_plist()
            if layout.get_layout() == h5py.h5d.VIRTUAL or layout.get_external_count():
                return f"{item.name}, whose data lie in another file"
            if item.shape is None or item.dtype.kind not in "biuf" or item.nbytes > size:
                return f"{item.name} of shape {item.shape} and type {item.dtype}"
    return ""


def _text(attributes: h5py.AttributeManager, name: str) -> str:
    """An attribute that must be one text; anything else is not read."""
    if attributes.get_id(name).shape != () or h5py.check_string_dtype(attributes.get_id(name).dtype) is None:
        raise ValueError(f"{name} is no text")
    value = attributes[name]
    return value.decode() if isinstance(value, bytes) else value


def _variables_by_place(network: keras.Model) -> dict[str, keras.Variable]:
    """Every variable by layer and index, named as in `_read_arrays`."""
    counts = Counter[str]()
    places = {}
    for variable in network.weights:
        layer = variable.path.removeprefix(f"{network.name}/").rpartition("/")[0]
        places[f"{layer}/{counts[layer]}"] = variable
        counts[layer] += 1
    return places


def _shared(trained_on: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """The speakers in both, sorted; "voxceleb2:*" stands for every speaker of that corpus."""
    known = set(map(voice, trained_on))
    return sorted(name for name in set(held_out) if {voice(name), voice(f"{name.partition(':')[0]}:*")} & known)


def _by(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "one number"
