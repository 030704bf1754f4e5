"""The ancestor beside ours: its weights file as Keras 2 writes it, its features and its forward pass in NumPy.

Here everything is as the ancestor has it: maps are [frequency, time, channels], kernels [frequency, time, in, out].
"""

from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from ser_tf.audio.vad import remove_silence
from ser_tf.cli import door
from ser_tf.config import PRESETS
from ser_tf.errors import UserError
from ser_tf.network.layers import SqueezeExcitation
from ser_tf.network.se_resnet import embedding_network
from ser_tf.pipeline import inputs_of
from ser_tf.pretraining.import_vggvox import import_vggvox
from ser_tf.runs.weights import layers_afresh, read_provenance, refuse_leak, table_of_fates, take_weights

NORM = ("gamma", "beta", "moving_mean", "moving_variance")
BLOCKS = {  # channels of the three convolutions, and the stride
    "conv2_a": (48, 48, 96, 1),
    "conv2_b": (48, 48, 96, 1),
    "conv3_a": (96, 96, 128, 2),
    "conv3_b": (96, 96, 128, 1),
    "conv3_c": (96, 96, 128, 1),
    "conv4_a": (128, 128, 256, 2),
    "conv4_b": (128, 128, 256, 1),
    "conv4_c": (128, 128, 256, 1),
    "conv5_a": (256, 256, 512, 2),
    "conv5_b": (256, 256, 512, 1),
    "conv5_c": (256, 256, 512, 1),
}
SPEAKERS = 5994

Layers = dict[str, dict[str, np.ndarray]]


def ancestor(rng: np.random.Generator) -> Layers:
    """Random weights under the ancestor's names, in its shapes."""
    layers: Layers = {}

    def convolution(name: str, *shape: int, gamma: float = 1.0) -> None:
        layers[name] = {"kernel": rng.normal(scale=np.sqrt(2 / np.prod(shape[:3])), size=shape)}
        channels = shape[-1]
        layers[f"{name}/bn"] = {
            "gamma": gamma * rng.uniform(0.5, 1.5, channels),
            "beta": rng.normal(scale=0.3, size=channels),
            "moving_mean": rng.normal(scale=0.3, size=channels),
            "moving_variance": rng.uniform(0.5, 1.5, channels),
        }

    convolution("conv1_1/3x3_s1", 7, 7, 1, 64)
    into = 64
    for name, (first, second, third, _) in BLOCKS.items():
        convolution(f"{name}_1x1_reduce", 1, 1, into, first)
        convolution(f"{name}_3x3", 3, 3, first, second)
        convolution(f"{name}_1x1_increase", 1, 1, second, third, gamma=0.2)  # or the sums of 11 blocks grow
        if name.endswith("a"):
            convolution(f"{name}_1x1_proj", 1, 1, into, third)
        into = third
    layers["x_fc"] = {"kernel": rng.normal(scale=0.02, size=(7, 1, 512, 512)), "bias": rng.normal(size=512)}
    # A soft assignment must stay soft: the kernel sums 3584 values of about 1.
    kernel = rng.normal(scale=0.005, size=(7, 1, 512, 10))
    layers["gvlad_center_assignment"] = {"kernel": kernel, "bias": rng.normal(size=10)}
    layers["gvlad_pool"] = {"centers": rng.normal(size=(10, 512))}
    layers["fc6"] = {"kernel": rng.normal(scale=0.02, size=(4096, 512)), "bias": rng.normal(scale=0.1, size=512)}
    layers["prediction"] = {"kernel": rng.normal(size=(512, SPEAKERS))}
    return {name: {key: value.astype("float32") for key, value in arrays.items()} for name, arrays in layers.items()}


def write_as_keras_2(path: Path, layers: Layers, whole_model: bool = False) -> Path:
    """The HDF5 layout of `Model.save_weights`, or of `Model.save`, in Keras 2.2."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole_model else file
        names = ["input", *layers, "activation_1"]  # layers without weights are listed too
        kind = h5py.string_dtype() if whole_model else "S"  # older files have bytes, later ones text
        group.attrs["layer_names"] = np.array(names, kind)
        for name in names:
            weight_names = [f"{name}/{array}:0" for array in layers.get(name, {})]
            group.require_group(name).attrs["weight_names"] = np.array(weight_names, kind)
            for array, value in layers.get(name, {}).items():
                group[name].create_dataset(f"{name}/{array}:0", data=value)
    return path


def features(waveform: np.ndarray) -> np.ndarray:
    """Spectrogram [257, T]: librosa's STFT with a Hann window of 400 in an FFT of 512, hop 160, centred."""
    joined = np.append(waveform, waveform[::-1]).astype(np.float64)
    window = np.pad(scipy.signal.get_window("hann", 400), 56)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(joined, 256, mode="reflect"), 512)[::160]
    magnitude = np.abs(np.fft.rfft(frames * window, axis=1)).T
    return (magnitude - magnitude.mean(0)) / (magnitude.std(0) + 1e-5)


def convolved(maps: np.ndarray, kernel: np.ndarray, stride: int = 1, padding: int = 0) -> np.ndarray:
    maps = np.pad(maps, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(maps, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.tensordot(windows, kernel.astype(np.float64), axes=([3, 4, 2], [0, 1, 2]))


def normalised(maps: np.ndarray, layer: dict[str, np.ndarray]) -> np.ndarray:
    gamma, beta, mean, variance = (layer[name].astype(np.float64) for name in NORM)
    return gamma * (maps - mean) / np.sqrt(variance + 1e-3) + beta


def pooled(maps: np.ndarray, window: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(maps, window, axis=(0, 1))
    return windows[:: strides[0], :: strides[1]].max((3, 4))


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.sqrt(np.maximum((vectors**2).sum(-1, keepdims=True), 1e-12))


def residual_maps(layers: Layers, spectrogram: np.ndarray) -> dict[str, np.ndarray]:
    """The output of each block."""

    def convolution(maps: np.ndarray, name: str, stride: int = 1, padding: int = 0) -> np.ndarray:
        return normalised(convolved(maps, layers[name]["kernel"], stride, padding), layers[f"{name}/bn"])

    maps = np.maximum(convolution(spectrogram[..., None], "conv1_1/3x3_s1", padding=3), 0)
    maps = pooled(maps, (2, 2), (2, 2))
    left = {}
    for name, (*_, stride) in BLOCKS.items():
        shortcut = convolution(maps, f"{name}_1x1_proj", stride) if name.endswith("a") else maps
        maps = np.maximum(convolution(maps, f"{name}_1x1_reduce", stride), 0)
        maps = np.maximum(convolution(maps, f"{name}_3x3", padding=1), 0)
        maps = convolution(maps, f"{name}_1x1_increase")
        left[name] = maps = np.maximum(maps + shortcut, 0)
    return left


def embedding_of(layers: Layers, spectrogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The embedding [512], and the assignment [T / 16, 10]."""
    maps = pooled(residual_maps(layers, spectrogram)["conv5_c"], (3, 1), (2, 1))
    descriptors, scores = (
        convolved(maps, layers[name]["kernel"])[0] + layers[name]["bias"]
        for name in ("x_fc", "gvlad_center_assignment")
    )
    descriptors = np.maximum(descriptors, 0)
    assignment = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    residuals = np.einsum("mk,mkd->kd", assignment, descriptors[:, None] - layers["gvlad_pool"]["centers"])
    v = unit(residuals[:8]).ravel()
    return unit(np.maximum(v @ layers["fc6"]["kernel"] + layers["fc6"]["bias"], 0)), assignment


@pytest.fixture(scope="module")
def layers() -> Layers:
    return ancestor(np.random.default_rng(0))


@pytest.fixture(scope="module")
def published(layers, tmp_path_factory) -> Path:
    return write_as_keras_2(tmp_path_factory.mktemp("published") / "weights.h5", layers)


@pytest.fixture(scope="module")
def imported(published):
    """For a preset, the imported file, its network and the fates of the arrays."""
    made = {}

    def of(name):
        if name not in made:
            out = published.with_name(f"{name}.weights.h5")
            fates = import_vggvox(published, out, PRESETS[name])
            network = embedding_network(PRESETS[name].network)
            take_weights(network, out)
            made[name] = out, network, fates
        return made[name]

    return of


@pytest.fixture(scope="module")
def waveform() -> np.ndarray:
    """0.53 s with a silent stretch; not a whole number of hops or strides."""
    waveform = np.random.default_rng(1).uniform(-0.3, 0.3, 8_517)
    waveform[3_000:4_200] *= 1e-4
    return (np.rint(waveform * 32_768) / 32_768).astype("float32")  # 16 bit, as the line has it


def test_the_features_are_the_ancestors(waveform):
    config = PRESETS["vggvox"]
    speech = remove_silence(waveform, config.vad)
    np.testing.assert_array_equal(speech.waveform, waveform)  # it hears the whole recording
    inputs = inputs_of(speech.waveform, config)
    expected = features(waveform)
    # 1 + 2 x 8517 // 160 frames: the recording and its reversal.
    assert expected.shape == (257, 107)
    assert list(inputs["frames"]) == [107]
    np.testing.assert_allclose(np.transpose(inputs["spectrogram"][0, :107]), expected, atol=1e-4)


def test_the_embedding_is_the_ancestors(imported, layers, waveform):
    _, network, _ = imported("vggvox")
    outputs = network.predict_on_batch(inputs_of(waveform, PRESETS["vggvox"]))
    expected, assignment = embedding_of(layers, features(waveform))
    assert 0 < assignment.min() < assignment.max() < 0.95  # soft, so that every cluster matters
    np.testing.assert_allclose(outputs["embedding"][0], expected, atol=1e-4)
    # Steps: 107, halved to 53, and rounded up 27, 14, 7.
    np.testing.assert_allclose(outputs["ghost_share"][0, :7], assignment[:, 8:].sum(1), atol=1e-4)


def test_nothing_but_the_classifier_of_speakers_is_left(imported):
    _, network, fates = imported("vggvox")
    assert [fate.name for fate in fates if fate.fate != "taken"] == ["prediction/kernel"]
    assert len(fates) == len(network.weights) + 1


def test_the_blocks_of_a_gated_network_give_what_they_gave(imported, layers, waveform):
    spectrogram = features(waveform)
    expected = residual_maps(layers, spectrogram)
    _, network, _ = imported("paper")
    ends = [layer.name for layer in network.layers if layer.name.startswith("stage") and layer.name[13:] == "_relu"]
    maps = keras.Model(network.inputs, [network.get_layer(name).output for name in ends])(
        {"spectrogram": spectrogram.T[None].astype("float32"), "frames": np.array([spectrogram.shape[1]])}
    )
    assert len(ends) == len(BLOCKS) == 11
    for ours, theirs in zip(maps, expected.values(), strict=True):
        np.testing.assert_allclose(ours[0].numpy().swapaxes(0, 1), theirs, atol=1e-4 * theirs.max())


def test_a_gate_that_is_put_in_changes_no_bit_and_has_its_full_gradient(imported, rng):
    frames = np.array([7])
    for block, channels in {"stage1_block1": 64, "stage2_block2": 128, "stage4_block3": 512}.items():
        maps = tf.constant(rng.normal(size=(1, 7, 3, channels)), tf.float32)
        outputs = {}
        with tf.GradientTape() as tape:
            for name in ("vggvox", "paper"):
                _, network, _ = imported(name)
                mixed = network.get_layer(f"{block}_expand")
                inner = maps[..., : mixed.kernel.shape[2]]
                outputs[name] = network.get_layer(f"{block}_expand_norm")(mixed(inner), training=False)
            gate = network.get_layer(f"{block}_squeeze_excitation")
            weighted = gate(outputs["paper"], frames)
        np.testing.assert_array_equal(weighted, outputs["vggvox"])
        # d(y sigmoid(s)) / ds = y / 4 at s = 0, the steepest there is; y is twice the ancestor's output.
        kernel_gradient, bias_gradient = tape.gradient(weighted, [gate.excite.kernel, gate.excite.bias])
        np.testing.assert_allclose(
            bias_gradient, 2 * outputs["vggvox"].numpy().sum((0, 1, 2)) / 4, rtol=1e-3, atol=1e-4
        )
        assert np.abs(kernel_gradient).max() > 0


def test_what_a_gated_network_takes_and_what_starts_afresh(imported, layers):
    _, network, fates = imported("paper")
    descriptors = network.get_layer("descriptor_convolution")
    np.testing.assert_array_equal(descriptors.kernel[0, :], layers["x_fc"]["kernel"][:, 0])
    np.testing.assert_array_equal(descriptors.bias, layers["x_fc"]["bias"])
    np.testing.assert_array_equal(network.get_layer("ghost_vlad").centres, layers["gvlad_pool"]["centers"][:8])
    by_fate = {fate: {row.name for row in fates if row.fate == fate} for fate in ("taken", "afresh", "refused")}
    assert by_fate["refused"] == {
        "gvlad_center_assignment/kernel",
        "gvlad_center_assignment/bias",
        "fc6/kernel",
        "fc6/bias",
        "prediction/kernel",
    }
    gates = [layer.name for layer in network.layers if isinstance(layer, SqueezeExcitation)]
    assert len(gates) == 11
    assert by_fate["afresh"] == {"ghost_vlad/kernel", "ghost_vlad/bias"} | {
        f"{gate}/{part}/{array}" for gate in gates for part in ("squeeze", "excite") for array in ("kernel", "bias")
    }
    assert by_fate["taken"] | by_fate["afresh"] == {weight.path for weight in network.weights}


@pytest.mark.parametrize("name", ["vggvox", "paper"])
def test_the_file_says_where_it_comes_from_and_starts_a_training(imported, published, name):
    out, _, _ = imported(name)
    provenance = read_provenance(out)
    assert provenance["source"].startswith("WeidiXie/VGG-Speaker-Recognition, resnet34s")
    assert provenance["licence"] == "CC BY 4.0"
    assert provenance["speakers"] == ["voxceleb2:*"]
    assert provenance["imported_from"]["method"]["spectrogram.window"] == "hann"
    assert ("ghost_vlad" in provenance["imported_from"]["afresh"]) == (name == "paper")
    assert layers_afresh(provenance, PRESETS[name], out) == ()
    without_ghosts = replace(PRESETS[name], network=replace(PRESETS[name].network, ghost_clusters=0))  # strategy S2
    assert layers_afresh(provenance, without_ghosts, out) == ("ghost_vlad",)
    refuse_leak(out, ["ravdess:01", "voxceleb1:id10001"], {})
    with pytest.raises(UserError, match=r"trained on 1 of the fold's .* \(voxceleb2:id00012\)"):
        refuse_leak(out, ["ravdess:01", "voxceleb2:id00012"], {})


def test_the_command_reads_a_whole_model_too_gives_the_same_and_says_what_was_taken(
    layers, imported, tmp_path, monkeypatch, capsys
):
    path, out = write_as_keras_2(tmp_path / "model.h5", layers, whole_model=True), tmp_path / "again.weights.h5"
    monkeypatch.setattr("sys.argv", ["ser-tf", "import-vggvox", str(path), str(out), "--preset", "paper"])
    door.main()
    *table, credit = capsys.readouterr().out.splitlines()
    assert "VGGVox assigns by the map rather than by the descriptors" in "\n".join(table)
    assert "\n".join(table) == table_of_fates(imported("paper")[2])
    assert credit.startswith(f"{out}: for finetune --preset paper --weights; WeidiXie/VGG-Speaker-Recognition")
    assert credit.endswith("CC BY 4.0")
    arrays = []
    for file in (imported("paper")[0], out):
        arrays.append(found := {})
        with h5py.File(file) as content:
            content.visititems(
                lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
    assert arrays[0].keys() == arrays[1].keys()
    for name, value in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][name], value)


def netvlad(layers: Layers) -> Layers:
    """The same with `aggregation_mode` vlad."""
    return {name.replace("gvlad", "vlad"): arrays for name, arrays in layers.items()}


def twelve_clusters(layers: Layers) -> Layers:
    kernel = np.zeros((7, 1, 512, 12), "float32")
    return layers | {"gvlad_center_assignment": {"kernel": kernel, "bias": np.zeros(12, "float32")}}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path, layers: None, "expected the weights of VGG-Speaker-Recognition (.h5); there is no such file"),
        (lambda path, layers: path.mkdir(), "there is no such file"),
        (lambda path, layers: path.write_text("<html>"), "expected a file of weights in HDF5"),
        (
            lambda path, layers: path.write_bytes(write_as_keras_2(path, layers).read_bytes()[:100_000]),
            "expected a file of weights in HDF5",
        ),
        (
            lambda path, layers: h5py.File(path, "w").close(),
            "expected an HDF5 file with the layers of a Keras 2 network",
        ),
        (
            lambda path, layers: write_as_keras_2(path, netvlad(layers)),
            "expected the resnet34s of VGG-Speaker-Recognition with GhostVLAD; it has no gvlad_center_assignment/",
        ),
        (
            lambda path, layers: write_as_keras_2(path, twelve_clusters(layers)),
            "8 clusters, 2 ghosts and descriptors of 512. Received: gvlad_center_assignment/kernel of shape "
            "(7, 1, 512, 12), for ghost_vlad/kernel of shape (3584, 10)",
        ),
    ],
    ids=["absent", "folder", "no HDF5", "truncated", "no layers", "NetVLAD", "12 clusters"],
)
def test_other_files_are_refused_in_one_line(prepare, message, layers, tmp_path):
    path = tmp_path / "theirs.h5"
    prepare(path, layers)
    with pytest.raises(UserError) as caught:
        import_vggvox(path, tmp_path / "ours.weights.h5")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.weights.h5").exists()


def test_nothing_is_overwritten_and_the_name_says_what_it_is(published, tmp_path):
    out = tmp_path / "ours.weights.h5"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"ours\.weights\.h5: expected a new file; remove it or choose another name"):
        import_vggvox(published, out)
    assert out.read_text() == "mine"
    with pytest.raises(UserError, match=r"ours\.h5: expected a name that ends in \.weights\.h5"):
        import_vggvox(published, tmp_path / "ours.h5")
