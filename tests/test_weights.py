import json
import os

import h5py
import keras
import numpy as np
import pytest

from ser_tf.config import Config, NetworkConfig, SpectrogramConfig
from ser_tf.errors import UserError
from ser_tf.network.layers import GhostVLAD, SqueezeExcitation
from ser_tf.runs.weights import (
    PROVENANCE,
    RECORDINGS,
    ArrayFate,
    layers_afresh,
    load_weights,
    method_of,
    read_provenance,
    read_recordings,
    refuse_leak,
    save_weights,
    table_of_fates,
    take_weights,
)

METHOD = method_of(Config())
PROVENANCE_OF_A_RUN = {
    "speakers": ["ravdess:01", "ravdess:02"],
    "method": METHOD,
    "strategy": "S3",
    "started_from": {"speakers": ["x"]},
}


def network(units: int = 3) -> keras.Model:
    layers = [keras.layers.Dense(units, name="dense"), keras.layers.BatchNormalization(name="norm")]
    return keras.Sequential([keras.Input((4,)), *layers])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "embedding.weights.h5"


@pytest.fixture
def saved(path):
    """The network whose weights are in `path`."""
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


def test_weights_of_a_different_shape_are_refused(saved, path):
    other = network(units=5)
    with pytest.raises(UserError, match=r"arrays do not fit this network, such as .*; choose the preset") as error:
        load_weights(other, path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "read",
    [read_provenance, lambda path: load_weights(network(), path), lambda path: take_weights(network(), path)],
    ids=["read", "load", "take"],
)
@pytest.mark.parametrize("make", ["absent", "directory"])
def test_missing_weights_are_reported(read, make, path):
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
    for read in (
        read_provenance,
        lambda path: load_weights(network(), path),
        lambda path: take_weights(network(), path),
    ):
        with pytest.raises(UserError, match=rf"^{path}: expected a file of weights .* Received: .*; restore it"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value, saved, path):
    saved.weights[0].assign(np.full(saved.weights[0].shape, value))
    save_weights(saved, path, {"speakers": [], "method": METHOD})
    for read in (load_weights, take_weights):
        with pytest.raises(UserError, match=rf"^{path}: expected finite weights. Received: NaN or Inf among them"):
            read(network(), path)


@pytest.mark.parametrize("attribute", [None, "no JSON", '["a list"]', '{"strategy": "S3"}', '{"speakers": ["x"]}', 7])
def test_weights_that_do_not_tell_their_speakers_are_refused(attribute, path):
    network().save_weights(path)
    with h5py.File(path, "a") as file:
        if attribute is not None:
            file.attrs[PROVENANCE] = attribute
    with pytest.raises(UserError, match="expected weights written by ser-tf, which list the speakers they"):
        read_provenance(path)


def weights_of(path, speakers, recordings=None):
    """Write weights trained on these speakers and recordings."""
    hashes = None if recordings is None else np.array(recordings, np.uint64)
    save_weights(network(), path, {"speakers": speakers, "method": METHOD}, hashes)


def test_weights_trained_on_a_held_out_speaker_are_refused(path):
    weights_of(path, [f"ravdess:{number:02d}" for number in range(1, 9)])
    refuse_leak(path, ["ravdess:09", "crema_d:1001"], {})
    with pytest.raises(UserError, match=r"trained on 1 of the fold's validation and test speakers \(ravdess:08\);"):
        refuse_leak(path, ["ravdess:08", "ravdess:09"], {})
    held_out = [f"ravdess:{number:02d}" for number in range(5, 13)]
    with pytest.raises(UserError, match=r"on 4 of .* \(ravdess:05, ravdess:06, ravdess:07, \.\.\.\); give weights"):
        refuse_leak(path, held_out, {})


def test_weights_trained_on_a_whole_corpus_know_its_speakers(path):
    weights_of(path, ["voxceleb2:*"])
    with pytest.raises(UserError, match=r"on 2 of .* \(voxceleb2:id00012, voxceleb2:id00015\); give weights"):
        refuse_leak(path, ["voxceleb2:id00015", "voxceleb2:id00012", "voxceleb1:id10001"], {})


def test_weights_trained_on_a_held_out_recording_with_a_different_name_are_refused(path):
    weights_of(path, ["choir:anna"], [2**64 - 1, 7, 7, 3])
    refuse_leak(path, ["ravdess:09"], {4: "x", 2**63: "y"})
    with pytest.raises(UserError, match=r"on 2 of the fold's validation and test recordings \(a, b\); give weights"):
        refuse_leak(path, ["ravdess:09"], {4: "x", 2**64 - 1: "b", 3: "a"})


def test_recordings_are_kept_sorted_and_packed(path):
    weights_of(path, ["choir:anna"])
    without = path.stat().st_size
    hashes = np.random.default_rng(0).integers(0, 2**64, 100_000, np.uint64)
    weights_of(path, ["choir:anna"], hashes)
    np.testing.assert_array_equal(read_recordings(path), np.sort(hashes))
    assert path.stat().st_size - without < 1.01 * 8 * len(hashes)
    load_weights(network(), path)


def test_older_weights_without_recordings_are_checked_by_their_speakers(path):
    # What versions before this one wrote: names of the run's corpus, and no recordings.
    weights_of(path, ["ravdess:01", "ravdess:02"])
    assert read_recordings(path) is None
    assert "recordings" not in read_provenance(path)  # a run that started from them resumes: its identity is the same
    refuse_leak(path, ["ravdess:03", "crema_d:01"], {1: "x"})
    with pytest.raises(UserError, match=r"validation and test speakers \(ravdess:02\)"):
        refuse_leak(path, ["ravdess:02"], {1: "x"})


def test_a_speaker_without_its_corpus_is_refused(path):
    weights_of(path, ["ravdess:01", "02"])
    with pytest.raises(UserError, match="expected weights written by ser-tf, which list the speakers they"):
        refuse_leak(path, [], {})


def test_weights_of_a_different_method_are_refused_even_where_the_shapes_fit(path):
    provenance = json.loads(json.dumps({"speakers": [], "method": METHOD}))
    assert layers_afresh(provenance, Config(network=NetworkConfig(head_units=7)), path) == ()
    for config, difference in (
        (
            Config(spectrogram=SpectrogramConfig(compression="log")),
            "spectrogram.compression none, and this run has log",
        ),
        (Config(spectrogram=SpectrogramConfig(hop_samples=80)), "spectrogram.hop_samples 160, and this run has 80"),
        (Config(network=NetworkConfig(stem_stride=2)), "network.stem_stride 1, and this run has 2"),
        (Config(network=NetworkConfig(width=0.5, clusters=4)), "network.width 1.0, and this run has 0.5"),
    ):
        with pytest.raises(UserError, match=f"^{path}: these weights were trained with {difference}; choose"):
            layers_afresh(provenance, config, path)


def test_layers_of_a_different_shape_start_afresh(path):
    provenance = {"method": METHOD}
    vlad = Config(network=NetworkConfig(clusters=4, ghost_clusters=0))
    assert layers_afresh(provenance, vlad, path) == ("ghost_vlad",)
    narrow = Config(network=NetworkConfig(descriptor_size=64))
    assert layers_afresh(provenance, narrow, path) == ("descriptor_convolution", "ghost_vlad")
    # While a parameter is compared, no value of it may be ahead by what the weights know.
    assert layers_afresh(provenance, Config(), path, compared=["network.clusters", "loss.alpha"]) == ("ghost_vlad",)


def test_a_parameter_younger_than_the_weights_had_its_default(path):
    older = {"method": {name: value for name, value in METHOD.items() if name != "network.ghost_clusters"}}
    assert layers_afresh(older, Config(), path) == ()
    assert layers_afresh(older, Config(network=NetworkConfig(ghost_clusters=1)), path) == ("ghost_vlad",)


def aggregator(ghosts: int = 2, beside: bool = False) -> keras.Model:
    """Two descriptors of 8 -> gate -> GhostVLAD with 2 clusters; `beside` puts a dense layer before."""
    inputs = keras.Input((2, 1, 8))
    count = keras.Input((), dtype="int32")
    maps = keras.layers.Dense(8, name="beside")(inputs) if beside else inputs
    maps = SqueezeExcitation(2, name="stage1_block1_gate")(maps, count)
    maps = keras.layers.Dense(8, name="stage1_block2_reduce")(maps)
    maps = keras.layers.BatchNormalization(name="stage1_block2_reduce_norm")(maps)
    descriptors = keras.layers.Reshape((2, 8))(maps)
    embedding, _ = GhostVLAD(2, ghosts, name="ghost_vlad")(descriptors, count)
    return keras.Model([inputs, count], embedding)


def values_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {variable.path: keras.ops.convert_to_numpy(variable).copy() for variable in model.weights}


@pytest.fixture
def trained(path) -> dict[str, np.ndarray]:
    """What stands in `path`: every array of an aggregator with two ghosts, no two alike."""
    first = aggregator()
    for number, variable in enumerate(first.weights):
        variable.assign(np.random.default_rng(number).normal(size=variable.shape))
    save_weights(first, path, PROVENANCE_OF_A_RUN)
    return values_of(first)


def test_weights_that_fit_are_taken_in_full(trained, path):
    other = aggregator()
    fates = take_weights(other, path)
    assert [fate.name for fate in fates] == list(trained)
    assert {fate.fate for fate in fates} == {"taken"}
    for name, value in values_of(other).items():
        np.testing.assert_array_equal(value, trained[name])
    # Gate 2 x 2, dense 2, batch normalisation 4, GhostVLAD 3.
    assert table_of_fates(fates) == "all 13 arrays taken"


@pytest.mark.parametrize("ghosts", [0, 2])
def test_a_layer_named_afresh_keeps_its_initial_values_and_the_others_are_taken(trained, path, ghosts):
    other = aggregator(ghosts)
    before = values_of(other)
    fates = take_weights(other, path, afresh=["ghost_vlad"])
    for name, value in values_of(other).items():
        np.testing.assert_array_equal(value, (before if name.startswith("ghost_vlad/") else trained)[name])
    kernel = next(fate for fate in fates if fate.name == "ghost_vlad/kernel")
    assert (kernel.in_file, kernel.in_network, kernel.fate) == ((8, 4), (8, 2 + ghosts), "afresh")
    why = {0: "ghost_vlad/kernel: 8x4 in the file, 8x2 in this network", 2: "its layer starts afresh"}[ghosts]
    assert table_of_fates(fates).splitlines() == ["stage1       10 taken", f"ghost_vlad    3 afresh ({why})"]


def test_layers_are_matched_by_name_whatever_stands_beside_them(path):
    # In the file Keras counts the layers of a class, so that `beside` moves the place of every other dense layer.
    save_weights(larger := aggregator(beside=True), path, PROVENANCE_OF_A_RUN)
    other = aggregator()
    fates = take_weights(other, path, afresh=["beside"])
    for name, value in values_of(other).items():
        np.testing.assert_array_equal(value, values_of(larger)[name])
    assert [fate for fate in fates if fate.fate == "refused"] == [
        ArrayFate(f"beside/{number}", shape, None, "refused", "this network has no such array")
        for number, shape in enumerate([(8, 8), (8,)])
    ]


@pytest.mark.parametrize(
    ("saved_with", "loaded_with", "message"),
    [
        # Of 13 arrays kernel and bias have a different shape.
        ({}, {"ghosts": 1}, "2 of 13 arrays .* such as ghost_vlad/kernel: 8x4 in the file, 8x3 in this network"),
        ({"beside": True}, {}, "2 of 15 arrays .* such as beside/0: this network has no such array"),
        ({}, {"beside": True}, "2 of 15 arrays .* such as beside/kernel: none in the file, 8x8 in this network"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_taken(path, saved_with, loaded_with, message):
    save_weights(aggregator(**saved_with), path, PROVENANCE_OF_A_RUN)
    other = aggregator(**loaded_with)
    before = values_of(other)
    with pytest.raises(UserError, match=f"^{path}: {message}; choose the preset and options"):
        take_weights(other, path)
    for name, value in values_of(other).items():
        np.testing.assert_array_equal(value, before[name])


def test_weights_whose_layers_have_no_names_are_refused(trained, path):
    with h5py.File(path, "a") as file:
        del file["layers/ghost_vlad/vars"].attrs["name"]
    with pytest.raises(UserError, match=f"^{path}: expected weights whose layers are named"):
        take_weights(aggregator(), path)


def external(file, secret):
    shape, kind = (100,), np.uint64
    file.create_dataset("layers/more/vars/0", shape, kind, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_recordings(file, secret):
    file.create_dataset(RECORDINGS, (100,), np.uint64, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file, secret):
    layout = h5py.VirtualLayout((100,), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "x", (100,))
    file.create_virtual_dataset("layers/more", layout)


def far_link(file, secret):
    file["layers/more"] = h5py.ExternalLink(str(secret), "/")


def soft_link(file, secret):
    file["layers/more"] = h5py.SoftLink("/layers")


def circle(file, secret):
    file["layers/more"] = file["layers"]


def absurd_size(file, secret):
    file.create_dataset("layers/more/vars/0", (10**11,), np.float64, chunks=(1000,))


def texts(file, secret):
    file.create_dataset("layers/more/vars/0", data=["a", "b"])


def references(file, secret):
    file.create_dataset("layers/more/vars/0", (1,), h5py.ref_dtype)


def named_type(file, secret):
    file["layers/more"] = np.dtype("f8")


def nothing(file, secret):
    file.create_dataset("layers/more/vars/0", data=h5py.Empty("f4"))


HOSTILE = (external, external_recordings, virtual, far_link, soft_link, circle)
HOSTILE += (absurd_size, texts, references, named_type, nothing)


@pytest.mark.parametrize("damage", HOSTILE)
def test_weights_that_would_read_elsewhere_or_too_much_are_refused(damage, saved, path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"a secret" * 100)
    with h5py.File(path, "a") as file:
        damage(file, secret)
    for read in (
        read_provenance,
        read_recordings,
        lambda path: load_weights(network(), path),
        lambda path: take_weights(network(), path),
    ):
        with pytest.raises(UserError, match=r"expected nothing but arrays of numbers in the file itself") as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_recordings_of_a_wrong_type_are_refused(kind, saved, path):
    with h5py.File(path, "a") as file:
        file[RECORDINGS] = np.arange(3, dtype=kind)
    with pytest.raises(UserError, match=r"expected hashes of recordings, uint64 \[N\]"):
        read_recordings(path)


@pytest.mark.parametrize(
    "provenance",
    [
        {"speakers": "a:b", "method": METHOD},
        {"speakers": ["a:b", 1], "method": METHOD},
        {"speakers": ["a:b"], "method": METHOD, "started_from": [1]},
        {"speakers": ["a:b"], "method": METHOD, "started_from": {"strategy": 5}},
        {"speakers": ["a:b"], "method": METHOD, "afresh": "ghost_vlad"},
    ],
)
def test_a_provenance_of_a_different_shape_is_refused(provenance, path):
    save_weights(network(), path, provenance)
    with pytest.raises(UserError, match="expected weights written by ser-tf, which list the speakers"):
        read_provenance(path)


def test_flipped_bits_in_the_tables_of_weights_end_in_one_line(saved, path, rng):
    whole = path.read_bytes()
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        for read in (read_provenance, read_recordings, lambda path: take_weights(network(), path)):
            try:
                read(path)
            except UserError as error:
                assert str(path) in str(error)
