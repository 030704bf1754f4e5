import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from networks import randomised

from ser_tf.config import PRESETS, Config, NetworkConfig, SpectrogramConfig
from ser_tf.errors import UserError
from ser_tf.network.layers import TimeMask
from ser_tf.network.se_resnet import (
    SOFTMAX_HEAD,
    describe,
    descriptor_count,
    embedding_network,
    frames_per_descriptor,
    minimum_frames,
    with_softmax_head,
    without_padding,
)

BINS = 67  # the fewest that the strided stem leaves something of
SMALL = NetworkConfig(
    width=0.125,
    stem_stride=2,
    final_pool_time_stride=1,
    squeeze_reduction=4,
    descriptor_size=10,
    clusters=2,
    ghost_clusters=1,
)
VGGVOX = replace(SMALL, squeeze_reduction=0, aggregation="vggvox")
STRIDES = [(1, 1), (1, 2), (2, 1), (2, 2)]


def trained_network(config: NetworkConfig, rng: np.random.Generator) -> keras.Model:
    """A network with random biases and batch statistics, and a soft assignment."""
    network = randomised(embedding_network(config, BINS), rng, scale=0.5)
    for weight in network.weights:
        if weight.path.endswith("ghost_vlad/kernel"):
            weight.assign(weight * 0.03)  # descriptors have a norm of about 30 here
    return network


def compiled(network: keras.Model) -> Callable[[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    """One graph for every length of a batch."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, BINS], tf.float32), tf.TensorSpec([None], tf.int32)],
    )
    def call(spectrogram: tf.Tensor, frames: tf.Tensor) -> dict[str, tf.Tensor]:
        return network({"spectrogram": spectrogram, "frames": frames}, training=False)

    return lambda spectrogram, frames: {key: value.numpy() for key, value in call(spectrogram, frames).items()}


def padded(utterances: list[np.ndarray], time: int, rng: np.random.Generator) -> np.ndarray:
    """The utterances as a batch of `time` frames, with loud random values beyond each end."""
    batch = rng.normal(scale=5, size=(len(utterances), time, BINS)).astype("float32")
    for row, utterance in zip(batch, utterances, strict=True):
        row[: len(utterance)] = utterance
    return batch


@pytest.fixture
def float32_again() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("stem_stride", "final_pool_time_stride"), STRIDES)
def test_an_embedding_depends_neither_on_padding_nor_on_its_batch(
    rng: np.random.Generator, stem_stride: int, final_pool_time_stride: int
) -> None:
    config = replace(SMALL, stem_stride=stem_stride, final_pool_time_stride=final_pool_time_stride)
    call = compiled(trained_network(config, rng))
    # 32 utterances of 41 to 72 frames: every T mod 32.
    utterances = [rng.normal(size=(frames, BINS)).astype("float32") for frames in range(41, 73)]
    alone = [call(utterance[None], np.array([len(utterance)])) for utterance in utterances]
    for utterance, outputs in zip(utterances, alone, strict=True):
        assert outputs["ghost_share"].shape == (1, descriptor_count(len(utterance), config))
        assert (outputs["ghost_share"] > 0).all()  # every descriptor counts

    def expect_the_same(rows: list[int], time: int) -> None:
        members = [utterances[row] for row in rows]
        outputs = call(padded(members, time, rng), np.array([len(member) for member in members]))
        for row, embedding, ghost_share in zip(rows, outputs["embedding"], outputs["ghost_share"], strict=True):
            np.testing.assert_allclose(embedding, alone[row]["embedding"][0], atol=1e-5)
            count = descriptor_count(len(utterances[row]), config)
            np.testing.assert_allclose(ghost_share[:count], alone[row]["ghost_share"][0], atol=1e-5)
            np.testing.assert_array_equal(ghost_share[count:], 0)

    # A batch of each length holds every utterance that 0 to 64 frames of padding bring there.
    for time in range(41, 72 + 64 + 1):
        expect_the_same([row for row, utterance in enumerate(utterances) if 0 <= time - len(utterance) <= 64], time)
    for row, utterance in enumerate(utterances):
        expect_the_same([row], len(utterance) + 500)


@pytest.mark.parametrize(("stem_stride", "final_pool_time_stride"), STRIDES)
def test_utterances_too_short_for_a_descriptor_are_padded_to_one(
    rng: np.random.Generator, stem_stride: int, final_pool_time_stride: int
) -> None:
    config = replace(SMALL, stem_stride=stem_stride, final_pool_time_stride=final_pool_time_stride)
    call = compiled(trained_network(config, rng))
    fewest = minimum_frames(config)
    for frames in range(fewest + 2):
        utterance = rng.normal(size=(frames, BINS)).astype("float32")
        alone = call(utterance[None], np.array([frames]))
        assert alone["ghost_share"].shape == (1, 1)
        np.testing.assert_allclose(np.linalg.norm(alone["embedding"]), 1, atol=1e-5)
        beside = call(padded([utterance], fewest + 40, rng), np.array([frames]))
        np.testing.assert_allclose(beside["embedding"], alone["embedding"], atol=1e-5)


def test_vggvox_depends_on_padding_no_more_than_ours(rng: np.random.Generator) -> None:
    call = compiled(trained_network(VGGVOX, rng))
    lengths = np.array([2, 41, 63, 90])
    utterances = [rng.normal(size=(frames, BINS)).astype("float32") for frames in lengths]
    together = call(padded(utterances, 131, rng), lengths)
    assert together["embedding"].shape == (4, 10)
    for row, utterance in enumerate(utterances):
        alone = call(utterance[None], lengths[row : row + 1])
        np.testing.assert_allclose(together["embedding"][row], alone["embedding"][0], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(alone["embedding"]), 1, atol=1e-5)
        count = descriptor_count(lengths[row], VGGVOX)
        np.testing.assert_allclose(together["ghost_share"][row, :count], alone["ghost_share"][0], atol=1e-5)
        np.testing.assert_array_equal(together["ghost_share"][row, count:], 0)


@pytest.mark.parametrize("config", [SMALL, VGGVOX], ids=["ours", "vggvox"])
def test_all_of_an_utterance_and_its_length_matter(rng: np.random.Generator, config: NetworkConfig) -> None:
    # A network that ignored its input would pass every test of invariance.
    call = compiled(trained_network(config, rng))
    utterance = rng.normal(size=(1, 96, BINS)).astype("float32")
    embedding = call(utterance, np.array([96]))["embedding"]
    assert np.abs(call(utterance, np.array([64]))["embedding"] - embedding).max() > 1e-3
    for frame in (0, 40, 95):
        changed = utterance.copy()
        changed[0, frame] += 5
        assert np.abs(call(changed, np.array([96]))["embedding"] - embedding).max() > 1e-3


@pytest.mark.parametrize(
    ("config", "frames", "expected"),
    [
        # floor: 18 -> 9, ceil: 5, 3, 2, floor: 1. One frame less gives 8, 4, 2, 1, and 0.
        (PRESETS["paper"].network, 18, 1),
        (PRESETS["paper"].network, 197, 6),  # 2 s: 98, 49, 25, 13, 6
        # ceil: 197 -> 99, floor: 49, ceil: 25, 13, 7, and the last pool keeps them.
        (PRESETS["compact"].network, 197, 7),
        (PRESETS["paper"].network, 1, 1),
    ],
)
def test_descriptor_count(config: NetworkConfig, frames: int, expected: int) -> None:
    assert descriptor_count(frames, config) == expected


@pytest.mark.parametrize("preset", ["paper", "compact"])
def test_a_descriptor_more_takes_that_many_frames_more(preset: str) -> None:
    config = PRESETS[preset].network
    assert frames_per_descriptor(config) == 32
    assert descriptor_count(197 + 32, config) == descriptor_count(197, config) + 1


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("paper", 18),  # 17 frames leave 1 step before the last pool, 18 leave 2
        ("compact", 3),  # 2 frames leave ceil(2 / 2) // 2 = 0
    ],
)
def test_minimum_frames(preset: str, expected: int) -> None:
    assert minimum_frames(PRESETS[preset].network) == expected


def test_the_paper_preset_is_the_papers_table() -> None:
    network = embedding_network(PRESETS["paper"].network)
    stages = {
        "stem_relu": (257, 64),
        "stem_pool": (128, 64),
        "stage1_block2_relu": (128, 96),
        "stage2_block3_relu": (64, 128),
        "stage3_block3_relu": (32, 256),
        "stage4_block3_relu": (16, 512),
        "final_pool": (7, 512),
        "descriptor_convolution": (1, 512),
    }
    for name, shape in stages.items():
        assert network.get_layer(name).output.shape == (None, None, *shape), name
    narrow = [network.get_layer(f"stage{stage}_block2_mix").filters for stage in (1, 2, 3, 4)]
    assert narrow == [48, 96, 128, 256]
    assert network.get_layer("stem").kernel.shape == (7, 7, 1, 64)
    assert network.get_layer("descriptor_convolution").kernel.shape == (1, 7, 512, 512)
    # 11 blocks of 3 convolutions and the two around them; the 4 projections are not counted.
    convolutions = [layer.name for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len([name for name in convolutions if "project" not in name]) == 11 * 3 + 2
    assert len(convolutions) == 11 * 3 + 2 + 4


def test_inputs_and_outputs_have_names() -> None:
    network = embedding_network(SMALL, BINS)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in network.input.items()} == {
        "spectrogram": ((None, None, BINS), "float32"),
        "frames": ((None,), "int32"),
    }
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in network.output.items()} == {
        "embedding": ((None, 2 * 10), "float32"),
        "ghost_share": ((None, None), "float32"),
    }


def test_the_softmax_head_adds_logits_of_the_embedding(rng: np.random.Generator) -> None:
    network = trained_network(SMALL, rng)
    classifier = with_softmax_head(network, classes=6, units=12)
    inputs = {"spectrogram": rng.normal(size=(2, 50, BINS)).astype("float32"), "frames": np.array([50, 41])}
    outputs = {name: value.numpy() for name, value in classifier(inputs, training=False).items()}
    assert set(outputs) == {"embedding", "ghost_share", "logits"}

    np.testing.assert_allclose(outputs["embedding"], network(inputs, training=False)["embedding"], atol=1e-6)
    kernel, bias, score_kernel, score_bias = classifier.get_layer(SOFTMAX_HEAD).get_weights()
    hidden = np.maximum(outputs["embedding"] @ kernel + bias, 0)
    assert hidden.shape == (2, 12)
    np.testing.assert_allclose(outputs["logits"], hidden @ score_kernel + score_bias, atol=1e-5)
    assert outputs["logits"].shape == (2, 6)


@pytest.mark.parametrize("training", [False, True])
def test_without_padding_the_network_computes_the_same(rng: np.random.Generator, training: bool) -> None:
    config = PRESETS["tiny"].network
    network = with_softmax_head(embedding_network(config), classes=3, units=8)
    unpadded = without_padding(network)
    assert [variable.path for variable in unpadded.variables] == [variable.path for variable in network.variables]
    assert all(one is other for one, other in zip(unpadded.variables, network.variables, strict=True))
    inputs = {"spectrogram": rng.normal(size=(3, 90, 257)).astype("float32"), "frames": np.full(3, 90, "int32")}
    expected, found = network(inputs, training=training), unpadded(inputs, training=training)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)
    assert not any(isinstance(layer, TimeMask) for layer in unpadded.layers)


@pytest.mark.parametrize("config", [SMALL, VGGVOX], ids=["ours", "vggvox"])
def test_keras_file_round_trip(rng: np.random.Generator, tmp_path: Path, config: NetworkConfig) -> None:
    classifier = with_softmax_head(trained_network(config, rng), classes=6, units=12)
    classifier.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    for time in (50, 2):  # a different length, and one below the minimum
        inputs = {"spectrogram": rng.normal(size=(2, time, BINS)).astype("float32"), "frames": np.array([time, 1])}
        expected, outputs = classifier(inputs, training=False), again(inputs, training=False)
        assert set(outputs) == set(expected)
        for name in expected:
            np.testing.assert_allclose(outputs[name], expected[name], atol=1e-6)


def test_mixed_precision(rng: np.random.Generator, float32_again: None) -> None:
    network = trained_network(SMALL, rng)
    keras.config.set_dtype_policy("mixed_bfloat16")
    mixed = with_softmax_head(embedding_network(SMALL, BINS), classes=6, units=12)
    assert mixed.get_layer("stem").compute_dtype == "bfloat16"
    for weight, value in zip(mixed.weights, network.get_weights(), strict=False):
        weight.assign(value)

    inputs = {"spectrogram": rng.normal(size=(4, 120, BINS)).astype("float32"), "frames": np.array([120, 97, 64, 31])}
    with tf.GradientTape() as tape:
        outputs = mixed(inputs, training=False)
        loss = tf.reduce_sum(outputs["logits"] ** 2)
    assert {tensor.dtype for tensor in outputs.values()} == {tf.float32}
    expected = network(inputs, training=False)
    # bfloat16 keeps 8 bits, an error of 0.4 % per rounding, over some 40 layers.
    cosine = np.sum(outputs["embedding"] * expected["embedding"], axis=1)
    assert cosine.min() > 0.98
    np.testing.assert_allclose(np.linalg.norm(outputs["embedding"], axis=1), 1, atol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, mixed.trainable_weights))


@pytest.mark.parametrize("case", ["silence", "one frame", "identical utterances"])
def test_training_gradients_are_finite_in_degenerate_cases(rng: np.random.Generator, case: str) -> None:
    classifier = with_softmax_head(embedding_network(SMALL, BINS), classes=6, units=12)
    spectrogram, frames = np.zeros((2, 40, BINS), "float32"), np.array([40, 40])
    if case == "one frame":
        spectrogram, frames = rng.normal(size=(2, 1, BINS)).astype("float32"), np.array([1, 1])
    elif case == "identical utterances":
        spectrogram = np.repeat(rng.normal(size=(1, 40, BINS)).astype("float32"), 2, axis=0)
    with tf.GradientTape() as tape:
        outputs = classifier({"spectrogram": spectrogram, "frames": frames}, training=True)
        loss = tf.reduce_sum(outputs["logits"] ** 2) + tf.reduce_sum(outputs["embedding"][:, :7] ** 2)
    assert all(np.isfinite(gradient).all() for gradient in tape.gradient(loss, classifier.trainable_weights))


JAX_PROGRAM = """
import json, sys
import numpy as np
from ser_tf.config import NetworkConfig
from ser_tf.network.se_resnet import embedding_network
import keras
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
network = embedding_network(NetworkConfig(**json.loads(sys.argv[2])), int(sys.argv[3]))
network.load_weights(f"{folder}/network.weights.h5")
inputs = dict(np.load(f"{folder}/inputs.npz"))
np.savez(f"{folder}/outputs.npz", **network.predict_on_batch(inputs))
assert "tensorflow" not in sys.modules
"""


def test_tensorflow_and_jax_give_equal_embeddings(rng: np.random.Generator, tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="the second backend is not installed: pip install -e '.[jax]'")
    config = replace(SMALL, final_pool_time_stride=2)
    network = trained_network(config, rng)
    network.save_weights(tmp_path / "network.weights.h5")
    frames = np.array([91, 58, 12], "int32")
    inputs = {"spectrogram": rng.normal(size=(3, 91, BINS)).astype("float32"), "frames": frames}
    np.savez(tmp_path / "inputs.npz", **inputs)
    subprocess.run(
        [sys.executable, "-c", JAX_PROGRAM, str(tmp_path), json.dumps(asdict(config)), str(BINS)],
        check=True,
        # Compiling some hundred small programs without optimisation takes less than half the time.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
    )
    outputs, expected = np.load(tmp_path / "outputs.npz"), network(inputs, training=False)
    for name in ("embedding", "ghost_share"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-4)


def test_describe_counts_parameters_and_multiply_adds_exactly() -> None:
    # Speech of 0.992 s has 15872 samples, so T = 1 + (15872 - 256) // 160 = 98 with a window of 256.
    config = Config(network=SMALL, spectrogram=SpectrogramConfig(window_samples=256, fft_samples=256))
    summary = describe(config, seconds=0.992)

    # Time x frequency: 98 x 129, stem 49 x 65, pool 24 x 32, stages 24 x 32, 12 x 16, 6 x 8, 3 x 4, last pool 3 x 1.
    # Channels: stem 8; narrow - wide 8 - 16 (6 - 12 rounded up to multiples of 8), 16 - 16 (12 - 16), 16 - 32, 32 - 64.
    # Kernel numbers: reduce + 3x3 + expand, and projection in the first block of a stage.
    stem = 7 * 7 * 8
    stage1 = (8 * 8 + 9 * 8 * 8 + 8 * 16 + 8 * 16) + (16 * 8 + 9 * 8 * 8 + 8 * 16)
    stage2 = (16 * 16 + 9 * 16 * 16 + 16 * 16 + 16 * 16) + 2 * (16 * 16 + 9 * 16 * 16 + 16 * 16)
    stage3 = (16 * 16 + 9 * 16 * 16 + 16 * 32 + 16 * 32) + 2 * (32 * 16 + 9 * 16 * 16 + 16 * 32)
    stage4 = (32 * 32 + 9 * 32 * 32 + 32 * 64 + 32 * 64) + 2 * (64 * 32 + 9 * 32 * 32 + 32 * 64)
    # Gates with a reduction of 4: two dense kernels, and their biases.
    gates = 2 * (2 * 16 * 4) + 3 * (2 * 16 * 4) + 3 * (2 * 32 * 8) + 3 * (2 * 64 * 16)
    gate_biases = 2 * (4 + 16) + 3 * (4 + 16) + 3 * (8 + 32) + 3 * (16 + 64)
    descriptors = 64 * 10
    # GhostVLAD: scores by 2 + 1 clusters, residuals to 2 centres.
    assignment, centres = 10 * 3, 2 * 10
    # Scale and offset of each normalised channel: reduce, 3x3, expand, and projection.
    norms = 2 * (8 + (2 * 32 + 16) + (3 * 48 + 16) + (3 * 64 + 32) + (3 * 128 + 64))

    assert summary.frames == 98
    assert summary.descriptors == 3
    assert summary.embedding_size == 2 * 10
    assert summary.parameters == (
        stem + stage1 + stage2 + stage3 + stage4 + norms + gates + gate_biases
        + descriptors + 10 + assignment + 3 + centres
    )  # fmt: skip
    assert summary.multiply_adds == (
        49 * 65 * stem + 24 * 32 * stage1 + 12 * 16 * stage2 + 6 * 8 * stage3 + 3 * 4 * stage4
        + gates + 3 * descriptors + 3 * (assignment + centres)
    )  # fmt: skip


def test_describe_counts_the_assignment_and_the_dense_layer_of_vggvox() -> None:
    ours, vggvox = (describe(Config(network=config), seconds=1.0) for config in (SMALL, VGGVOX))
    assert vggvox.embedding_size == 10
    # 97 frames leave 3 steps. Without the gates of `test_describe_counts_parameters_and_multiply_adds_exactly`; the
    # assignment reads 64 channels of 3 bins rather than 10 descriptors; the ghost has a centre; and V is 2 x 10 long.
    assert vggvox.descriptors == 3
    gates = 2 * (2 * 16 * 4) + 3 * (2 * 16 * 4) + 3 * (2 * 32 * 8) + 3 * (2 * 64 * 16)
    gate_biases = 2 * (4 + 16) + 3 * (4 + 16) + 3 * (8 + 32) + 3 * (16 + 64)
    instead = (3 * 64 - 10) * 3 + 10
    dense = 20 * 10
    assert vggvox.parameters == ours.parameters - gates - gate_biases + instead + dense + 10
    assert vggvox.multiply_adds == ours.multiply_adds - gates + 3 * instead + dense


def test_the_paper_preset_takes_about_3_billion_multiply_adds_for_2_seconds() -> None:
    summary = describe(PRESETS["paper"], seconds=2.0)
    assert 2.9e9 < summary.multiply_adds < 3.2e9
    assert (summary.frames, summary.descriptors, summary.embedding_size) == (197, 6, 4096)


@pytest.mark.parametrize(
    ("config", "bins", "message"),
    [
        ({"width": 0.0}, BINS, "width: expected at least 0.125. Received: width=0.0"),
        ({"width": 0.12}, BINS, "width: expected at least 0.125. Received: width=0.12"),
        ({"width": float("nan")}, BINS, "Received: width=nan"),
        ({"stem_stride": 3}, BINS, "expected stem_stride 1 or 2. Received: stem_stride=3"),
        (
            {"final_pool_time_stride": 0},
            BINS,
            "expected final_pool_time_stride 1 or 2. Received: final_pool_time_stride=0",
        ),
        ({"squeeze_reduction": -1}, BINS, "squeeze_reduction: expected at least 0. Received: squeeze_reduction=-1"),
        ({"descriptor_size": 0}, BINS, "descriptor_size: expected at least 1. Received: descriptor_size=0"),
        ({"clusters": 0}, BINS, "clusters: expected at least 1. Received: clusters=0"),
        ({"ghost_clusters": -1}, BINS, "ghost_clusters: expected at least 0. Received: ghost_clusters=-1"),
        ({}, 66, "expected at least 67 frequency bins with stem_stride=2; raise fft_samples. Received: bins=66"),
        ({"stem_stride": 1}, 33, "expected at least 34 frequency bins with stem_stride=1; raise fft_samples"),
    ],
)
def test_a_network_that_cannot_be_is_refused(config: dict[str, float], bins: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        embedding_network(replace(SMALL, **config), bins)
    assert message in str(caught.value)
