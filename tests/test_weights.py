import json
import os

import h5py
import keras
import numpy as np
import pytest

from ser_tf.config import Config, NetworkConfig, SpectrogramConfig
from ser_tf.errors import UserError
from ser_tf.training.weights import (
    PROVENANCE,
    load_weights,
    method_of,
    read_provenance,
    refuse_leak,
    refuse_other_method,
    save_weights,
)

METHOD = method_of(Config())
PROVENANCE_OF_A_RUN = {
    "speakers": ["ravdess:01", "ravdess:02"],
    "method": METHOD,
    "strategy": "S3",
    "started_from": {"speakers": ["x"]},
}


def network(units: int = 3) -> keras.Model:
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units), keras.layers.BatchNormalization()])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embedding.weights.h5"


@pytest.fixture
def saved(path):
    """The network whose weights stand in `path`."""
    first = network()
    save_weights(first, path, PROVENANCE_OF_A_RUN)
    return first


def test_weights_and_provenance_come_back(saved, path):
    other = network()
    assert (np.asarray(other.weights[0]) != np.asarray(saved.weights[0])).any()
    load_weights(other, path)
    for weight, expected in zip(other.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(expected))
    assert read_provenance(path).items() >= PROVENANCE_OF_A_RUN.items()
    assert list(path.parent.iterdir()) == [path]


def test_the_hash_is_that_of_the_file(saved, path):
    first = read_provenance(path)["sha256"]
    assert len(first) == 16
    assert read_provenance(path)["sha256"] == first
    save_weights(saved, path, {"speakers": ["ravdess:03"], "method": METHOD})
    assert read_provenance(path)["sha256"] != first


def test_thousands_of_speakers_fit_beside_the_weights(path):
    # VoxCeleb2 has 5994; as JSON they take more than the 64 KiB of an HDF5 object header.
    speakers = [f"voxceleb2:id{number:05d}" for number in range(5994)]
    assert len(json.dumps(speakers)) > 2**16
    save_weights(network(), path, {"speakers": speakers, "method": METHOD})
    assert read_provenance(path)["speakers"] == speakers


def test_a_kill_while_saving_leaves_the_weights_before(saved, path, monkeypatch):
    before = path.read_bytes()

    def killed(self, file):
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save_weights", killed)
    with pytest.raises(KeyboardInterrupt):
        save_weights(saved, path, {"speakers": []})
    assert path.read_bytes() == before


def test_weights_of_another_shape_are_refused(saved, path):
    other = network(units=5)
    with pytest.raises(UserError, match=r"do not fit this network; expected the same preset, width, clusters") as error:
        load_weights(other, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("read", [read_provenance, lambda path: load_weights(network(), path)], ids=["read", "load"])
@pytest.mark.parametrize("make", ["absent", "directory"])
def test_missing_weights_are_said(read, make, path):
    if make == "directory":
        path.mkdir()
    with pytest.raises(UserError, match=r"embedding\.weights\.h5: expected a file of weights .*; there is none"):
        read(path)


@pytest.mark.parametrize("damage", ["no HDF5", "truncated"])
def test_damaged_weights_are_refused(damage, saved, path):
    if damage == "no HDF5":
        path.write_text("version https://git-lfs.github.com/spec/v1\n")
    else:
        os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="expected weights written by ser-tf"):
        read_provenance(path)
    with pytest.raises(UserError, match="do not fit this network"):
        load_weights(network(), path)


@pytest.mark.parametrize("attribute", [None, "no JSON", '["a list"]', '{"strategy": "S3"}', '{"speakers": ["x"]}', 7])
def test_weights_that_do_not_tell_their_speakers_are_refused(attribute, path):
    network().save_weights(path)
    with h5py.File(path, "a") as file:
        if attribute is not None:
            file.attrs[PROVENANCE] = attribute
    with pytest.raises(UserError, match="expected weights written by ser-tf, which list the speakers they"):
        read_provenance(path)


def test_weights_that_heard_a_held_out_speaker_are_refused(path):
    provenance = {"speakers": [f"ravdess:{number:02d}" for number in range(1, 9)]}
    refuse_leak(provenance, ["ravdess:09", "crema_d:1001"], path)
    with pytest.raises(UserError, match=r"trained on 1 of the fold's validation and test speakers \(ravdess:08\);"):
        refuse_leak(provenance, ["ravdess:08", "ravdess:09"], path)
    held_out = [f"ravdess:{number:02d}" for number in range(5, 13)]
    with pytest.raises(UserError, match=r"on 4 of .* \(ravdess:05, ravdess:06, ravdess:07, \.\.\.\); give weights"):
        refuse_leak(provenance, held_out, path)


def test_weights_of_another_method_are_refused_even_where_the_shapes_fit(path):
    provenance = json.loads(json.dumps({"speakers": [], "method": METHOD}))
    refuse_other_method(provenance, Config(network=NetworkConfig(head_units=7)), path)
    for config, difference in (
        (
            Config(spectrogram=SpectrogramConfig(compression="log")),
            "spectrogram.compression none, and this run has log",
        ),
        (Config(spectrogram=SpectrogramConfig(hop_samples=80)), "spectrogram.hop_samples 160, and this run has 80"),
        (Config(network=NetworkConfig(stem_stride=2)), "network.stem_stride 1, and this run has 2"),
        (Config(network=NetworkConfig(ghost_clusters=0)), "network.ghost_clusters 2, and this run has 0"),
    ):
        with pytest.raises(UserError, match=f"^{path}: these weights were trained with {difference}; choose"):
            refuse_other_method(provenance, config, path)
