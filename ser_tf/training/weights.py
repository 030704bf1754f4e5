"""Weights that travel between runs; whom they were trained on, and on what input, is written into the file."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from ser_tf.config import Config
from ser_tf.errors import UserError

PROVENANCE = "ser_tf_provenance"
"""HDF5 attribute that holds the provenance as JSON."""
HDF5_BYTES_PER_ARRAY = 4096
"""More than HDF5 adds to an array for its names and groups."""


def save_weights(network: keras.Model, path: Path, provenance: dict[str, Any]) -> None:
    """Write the network's weights (`.weights.h5`) and their provenance, atomically.

    Args:
        network: an embedding network, or the head of one.
        path: ends in `.weights.h5`.
        provenance: JSON values; `speakers` lists whoever the network has heard, `method` is its `method_of`.
    """
    unfinished = path.with_name(f"unfinished-{path.name}")
    text = json.dumps(provenance)
    size = sum(np.asarray(weight).nbytes + HDF5_BYTES_PER_ARRAY for weight in network.weights) + len(text)
    unfinished.write_bytes(bytes(size))  # where the disk is full this says so, and HDF5 would crash
    network.save_weights(unfinished)
    with h5py.File(unfinished, "a") as file:
        file.attrs[PROVENANCE] = text
    unfinished.replace(path)


def load_weights(network: keras.Model, path: Path) -> None:
    """Put the file's weights into the network.

    Raises:
        UserError: the file is missing, damaged, or of another network.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a file of weights (.weights.h5); there is none")
    try:
        network.load_weights(path)
    except Exception as error:
        raise UserError(
            f"{path}: the weights do not fit this network; expected the same preset, width, clusters and ghost "
            f"clusters as the run that wrote them. {_first_line(error)}"
        ) from error


def read_provenance(path: Path) -> dict[str, Any]:
    """What `save_weights` wrote beside the weights, and `sha256`, the first 16 digits of the file's hash.

    Raises:
        UserError: the file is missing, is no HDF5, or does not tell which speakers it was trained on and how.
    """
    if not path.is_file():
        raise UserError(f"{path}: expected a file of weights (.weights.h5); there is none")
    try:
        with h5py.File(path) as file:
            provenance = json.loads(file.attrs[PROVENANCE])
        known = {"speakers": list(provenance["speakers"]), "method": dict(provenance["method"])}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected weights written by ser-tf, which list the speakers they were trained on; give the "
            "embedding.weights.h5 of a run"
        ) from error
    return provenance | known | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()[:16]}


def refuse_leak(provenance: dict[str, Any], held_out: Iterable[str], path: Path) -> None:
    """Refuse weights that have heard a speaker of the validation or test side.

    Raises:
        UserError: they have; the line names the first such speakers.
    """
    shared = sorted(set(provenance["speakers"]) & set(held_out))
    if shared:
        raise UserError(
            f"{path}: these weights were trained on {len(shared)} of the fold's validation and test speakers "
            f"({', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}); give weights trained on the same fold's "
            "training speakers or on another corpus"
        )


def method_of(config: Config) -> dict[str, Any]:
    """What gives a weight its meaning beside its place: spectrogram and network, without the softmax head."""
    rooms = {"spectrogram": dataclasses.asdict(config.spectrogram), "network": dataclasses.asdict(config.network)}
    return {
        f"{room}.{name}": value
        for room, parameters in rooms.items()
        for name, value in parameters.items()
        if name != "head_units"
    }


def refuse_other_method(provenance: dict[str, Any], config: Config, path: Path) -> None:
    """Refuse weights that learned from other spectrograms or stand in another network, even where the shapes fit.

    Raises:
        UserError: they do; the line names the first parameter that differs.
    """
    for name, value in method_of(config).items():
        before = provenance["method"].get(name)
        if before != value:
            raise UserError(
                f"{path}: these weights were trained with {name} {before}, and this run has {value}; choose the preset "
                "and options of the run that wrote them"
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
