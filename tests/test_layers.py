from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ser_tf.network.batch_normalisation import FusedBatchNormalization
from ser_tf.network.layers import (
    Cosines,
    GhostVLAD,
    MinimumTime,
    SqueezeExcitation,
    TimeMask,
    VggvoxVLAD,
    unit_norm_from,
)


def random_ghost_vlad(rng: np.random.Generator, clusters: int, ghost_clusters: int, size: int) -> GhostVLAD:
    """A layer whose bias is not zero, so that every term of the assignment is at work."""
    layer = GhostVLAD(clusters, ghost_clusters)
    layer.build((None, None, size), (None,))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    return layer


def ghost_vlad_by_loops(
    descriptors: np.ndarray, count: int, kernel: np.ndarray, bias: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Equation (1) for one utterance, term by term in float64."""
    ghost_share = np.zeros(len(descriptors))
    residuals = np.zeros(centres.shape)
    for m in range(count):
        scores = [np.exp(descriptors[m] @ kernel[:, k] + bias[k]) for k in range(len(bias))]
        for k in range(len(bias)):
            assignment = scores[k] / sum(scores)
            if k < len(centres):
                residuals[k] += assignment * (descriptors[m] - centres[k])
            else:
                ghost_share[m] += assignment
    for k in range(len(centres)):
        residuals[k] /= np.linalg.norm(residuals[k])
    embedding = residuals.reshape(-1)
    return embedding / np.linalg.norm(embedding), ghost_share


def call_with_gradients(layer: GhostVLAD, descriptors: np.ndarray, count: list[int]) -> tuple[Any, list[Any]]:
    """The embedding, and the gradients of its dot product with fixed numbers by the descriptors and each weight."""
    descriptors = tf.constant(descriptors, "float32")
    with tf.GradientTape() as tape:
        tape.watch(descriptors)
        embedding, _ = layer(descriptors, tf.constant(count))
        direction = np.random.default_rng(1).normal(size=embedding.shape).astype("float32")
        product = tf.reduce_sum(embedding * direction)
    return embedding.numpy(), tape.gradient(product, [descriptors, *layer.trainable_weights])


@pytest.mark.parametrize("ghost_clusters", [0, 1, 3])
def test_ghost_vlad_equals_a_loop_over_equation_1(rng: np.random.Generator, ghost_clusters: int) -> None:
    layer = random_ghost_vlad(rng, clusters=4, ghost_clusters=ghost_clusters, size=5)
    descriptors, counts = rng.normal(size=(3, 6, 5)), [6, 1, 4]
    embeddings, ghost_shares = layer(descriptors, np.array(counts))

    kernel, bias, centres = (keras.ops.convert_to_numpy(w).astype("float64") for w in layer.weights)
    for row, count in enumerate(counts):
        embedding, ghost_share = ghost_vlad_by_loops(descriptors[row], count, kernel, bias, centres)
        np.testing.assert_allclose(embeddings[row], embedding, atol=1e-5)
        np.testing.assert_allclose(ghost_shares[row], ghost_share, atol=1e-6)


def test_ghost_vlad_gives_k_times_d_numbers_of_unit_norm(rng: np.random.Generator) -> None:
    embedding, ghost_share = random_ghost_vlad(rng, 8, 2, size=16)(rng.normal(size=(4, 7, 16)), np.array([7, 1, 3, 5]))
    assert embedding.shape == (4, 8 * 16)
    assert ghost_share.shape == (4, 7)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)


def test_the_order_of_descriptors_does_not_matter(rng: np.random.Generator) -> None:
    layer = random_ghost_vlad(rng, 4, 2, size=8)
    descriptors, order = rng.normal(size=(1, 9, 8)), rng.permutation(9)
    embedding, ghost_share = layer(descriptors, np.array([9]))
    shuffled_embedding, shuffled_ghost_share = layer(descriptors[:, order], np.array([9]))
    np.testing.assert_allclose(shuffled_embedding, embedding, atol=1e-6)
    np.testing.assert_allclose(shuffled_ghost_share[0], ghost_share.numpy()[0][order], atol=1e-6)


def test_descriptors_beyond_the_count_do_not_matter(rng: np.random.Generator) -> None:
    layer = random_ghost_vlad(rng, 4, 2, size=8)
    descriptors = rng.normal(size=(1, 9, 8))
    embedding, ghost_share = layer(descriptors[:, :6], np.array([6]))
    descriptors[:, 6:] = np.nan
    padded_embedding, padded_ghost_share = layer(descriptors, np.array([6]))
    np.testing.assert_allclose(padded_embedding, embedding, atol=1e-6)
    np.testing.assert_allclose(padded_ghost_share[:, :6], ghost_share, atol=1e-6)
    np.testing.assert_array_equal(padded_ghost_share[:, 6:], 0)


def test_ghosts_take_part_in_the_assignment_and_leave_no_residual(rng: np.random.Generator) -> None:
    # Two descriptors, one real cluster with its centre at the origin, one ghost. The ghost's score of the first
    # descriptor is 0 + ln 3, of the second ln 3 - 100: shares 3/4 and 0. So V points along 1/4 x(1) + 1 x(2).
    layer = GhostVLAD(clusters=1, ghost_clusters=1)
    layer.build((None, None, 2), (None,))
    layer.kernel.assign([[0, 0], [0, -100]])
    layer.bias.assign([0, np.log(3)])
    layer.centres.assign([[0, 0]])
    embedding, ghost_share = layer(np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([2]))
    np.testing.assert_allclose(ghost_share, [[0.75, 0]], atol=1e-6)
    np.testing.assert_allclose(embedding, np.array([[0.25, 1]]) / np.hypot(0.25, 1), atol=1e-6)


def test_without_ghosts_it_is_netvlad(rng: np.random.Generator) -> None:
    netvlad = random_ghost_vlad(rng, 4, 0, size=8)
    descriptors, count = rng.normal(size=(2, 5, 8)), np.array([5, 3])
    embedding, ghost_share = netvlad(descriptors, count)
    np.testing.assert_array_equal(ghost_share, 0)

    # Ghosts that nothing is assigned to change nothing.
    layer = random_ghost_vlad(rng, 4, 2, size=8)
    kernel, bias, centres = (keras.ops.convert_to_numpy(w) for w in netvlad.weights)
    layer.set_weights([np.pad(kernel, ((0, 0), (0, 2))), np.pad(bias, (0, 2), constant_values=-1e4), centres])
    np.testing.assert_allclose(layer(descriptors, count)[0], embedding, atol=1e-6)


def test_an_utterance_that_goes_to_the_ghosts_keeps_unit_norm_and_finite_gradients(rng: np.random.Generator) -> None:
    layer = random_ghost_vlad(rng, 4, 2, size=8)
    layer.bias.assign([0, 0, 0, 0, 500, 500])  # exp(-500) is zero in float32
    embedding, gradients = call_with_gradients(layer, rng.normal(size=(2, 5, 8)), [5, 1])
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("case", ["zero descriptors", "zero residuals", "huge descriptors", "no descriptor"])
def test_gradients_are_finite_in_degenerate_cases(rng: np.random.Generator, case: str) -> None:
    layer = random_ghost_vlad(rng, 4, 2, size=8)
    descriptors, count = np.zeros((2, 5, 8)), [5, 3]
    if case == "zero residuals":
        layer.centres.assign(np.zeros((4, 8)))
    elif case == "huge descriptors":
        descriptors = 1e6 * rng.normal(size=(2, 5, 8))
    elif case == "no descriptor":
        count = [0, 5]
    embedding, gradients = call_with_gradients(layer, descriptors, count)
    assert np.isfinite(embedding).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    if case == "zero residuals":
        # A zero row has no direction, so it passes no gradient on: a root at zero would give NaN or 1e6.
        np.testing.assert_array_equal(embedding, 0)
        np.testing.assert_array_equal(gradients[0], 0)


@pytest.mark.parametrize("ghost_clusters", [0, 2])
def test_vggvox_vlad_assigned_by_its_descriptors_is_ghost_vlad_but_for_the_last_norm(
    rng: np.random.Generator, ghost_clusters: int
) -> None:
    ghost_vlad = random_ghost_vlad(rng, clusters=4, ghost_clusters=ghost_clusters, size=5)
    descriptors, counts = rng.normal(size=(3, 6, 5)).astype("float32"), np.array([6, 1, 4])
    # The cells hold the descriptors in reverse order, beside others that the kernel ignores.
    cells = np.concatenate([descriptors[..., ::-1], rng.normal(size=(3, 6, 2))], axis=-1).astype("float32")
    descriptors[1, 1:], cells[1, 1:] = np.nan, np.nan  # padding may hold anything

    vggvox_vlad = VggvoxVLAD(4, ghost_clusters)
    vggvox_vlad.build(descriptors.shape, cells.shape, counts.shape)
    kernel, bias, centres = (keras.ops.convert_to_numpy(weight) for weight in ghost_vlad.weights)
    vggvox_vlad.kernel.assign(np.pad(kernel[::-1], ((0, 2), (0, 0))))
    vggvox_vlad.bias.assign(bias)
    vggvox_vlad.centres.assign(np.pad(centres, ((0, ghost_clusters), (0, 0)), constant_values=np.nan))  # not read
    residuals, ghost_share = vggvox_vlad(descriptors, cells, counts)
    expected, expected_share = ghost_vlad(descriptors, counts)
    np.testing.assert_allclose(np.linalg.norm(np.reshape(residuals, (3, 4, 5)), axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(residuals / np.sqrt(4), expected, atol=1e-5)
    np.testing.assert_allclose(ghost_share, expected_share, atol=1e-6)


def test_unit_norm_leaves_short_vectors_short_and_their_gradient_finite() -> None:
    vectors = tf.constant([[3.0, 4.0], [3e-7, 4e-7], [0.0, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        units = unit_norm_from(vectors)
    np.testing.assert_allclose(units, [[0.6, 0.8], [0.3, 0.4], [0, 0]], atol=1e-6)
    assert np.isfinite(tape.gradient(units, vectors)).all()


def test_squeeze_excitation_gates_by_the_mean_of_true_cells(rng: np.random.Generator) -> None:
    layer = SqueezeExcitation(reduction=2)
    maps = rng.normal(size=(1, 5, 3, 4)).astype("float32")
    layer.build(maps.shape, (1,))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))

    squeeze, squeeze_bias, excite, excite_bias = (keras.ops.convert_to_numpy(w) for w in layer.weights)
    assert squeeze.shape == (4, 2)  # 4 channels // reduction 2
    hidden = np.maximum(maps[:, :4].mean(axis=(1, 2)) @ squeeze + squeeze_bias, 0)
    gate = 1 / (1 + np.exp(-(hidden @ excite + excite_bias)))
    np.testing.assert_allclose(layer(maps, np.array([4])), maps * gate[:, None, None], rtol=1e-5, atol=1e-6)


def test_squeeze_excitation_keeps_one_hidden_unit() -> None:
    layer = SqueezeExcitation(reduction=16)
    layer.build((None, None, 4, 8), (None,))
    assert layer.squeeze.units == 1


def both_normalisations(
    rng: np.random.Generator, channels: int, dtype: str = "float32"
) -> list[keras.layers.BatchNormalization]:
    """Keras's layer and ours with the same weights, none of them at its initial value."""
    layers = [kind(momentum=0.9, dtype=dtype) for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)]
    values = [rng.uniform(0.5, 2, size=channels) for _ in range(4)]
    for layer in layers:
        layer.build((None, None, 5, channels))
        for weight, value in zip(layer.weights, values, strict=True):
            weight.assign(value)
    return layers


@pytest.mark.parametrize("channels", [8, 24, 32])
@pytest.mark.parametrize("training", [False, True])
def test_fused_batch_normalisation_equals_keras(rng: np.random.Generator, channels: int, training: bool) -> None:
    keras_layer, fused = both_normalisations(rng, channels)
    maps = tf.constant(3 + 2 * rng.normal(size=(4, 7, 5, channels)), "float32")
    direction = tf.constant(rng.normal(size=maps.shape), "float32")
    found = []
    for layer in (keras_layer, fused):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            outputs = layer(maps, training=training)
            product = tf.reduce_sum(outputs * direction)
        gradients = tape.gradient(product, [maps, *(weight.value for weight in layer.trainable_weights)])
        found.append([outputs, *gradients, *(weight.value for weight in layer.non_trainable_weights)])
    for expected, value in zip(*found, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-5 * float(tf.reduce_max(tf.abs(expected))))


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [((4, 7, 6), {}), ((4, 7, 5, 6), {"scale": False}), ((4, 7, 5, 6), {"axis": 1}), ((4, 7, 5, 6), {"masked": True})],
)
def test_what_the_fused_kernel_cannot_do_keras_computes(
    rng: np.random.Generator, shape: tuple[int, ...], arguments: dict[str, Any]
) -> None:
    maps = rng.normal(size=shape).astype("float32")
    arguments = dict(arguments)
    mask = np.arange(7) < np.array([[7], [3], [5], [1]]) if arguments.pop("masked", False) else None
    outputs = [
        np.asarray(kind(**arguments)(maps, training=True, mask=None if mask is None else mask[:, :, None]))
        for kind in (keras.layers.BatchNormalization, FusedBatchNormalization)
    ]
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)


def test_fused_batch_normalisation_in_half_precision_keeps_its_statistics_in_float32(rng: np.random.Generator) -> None:
    keras_layer, fused = both_normalisations(rng, 16, dtype="mixed_bfloat16")
    maps = rng.normal(size=(4, 7, 5, 16)).astype("float32")
    expected, found = keras_layer(maps, training=True), fused(maps, training=True)
    assert found.dtype == expected.dtype == tf.bfloat16
    # bfloat16 has 8 bits: numbers up to 8 are 2 ** -5 apart.
    np.testing.assert_allclose(tf.cast(found, tf.float32), tf.cast(expected, tf.float32), atol=2**-4)
    assert all(weight.dtype == "float32" for weight in fused.weights)


@pytest.mark.parametrize("rest", [(), (3,), (3, 2)])
def test_time_mask_zeroes_what_lies_beyond_the_true_length(rng: np.random.Generator, rest: tuple[int, ...]) -> None:
    inputs = rng.normal(size=(3, 4, *rest)).astype("float32")
    inputs[1, 2:] = np.nan
    outputs = TimeMask()(inputs, np.array([4, 2, 0])).numpy()
    np.testing.assert_array_equal(outputs[0], inputs[0])
    np.testing.assert_array_equal(outputs[1, :2], inputs[1, :2])
    np.testing.assert_array_equal(outputs[1, 2:], 0)
    np.testing.assert_array_equal(outputs[2], 0)


@pytest.mark.parametrize(("time", "expected"), [(0, 4), (1, 4), (3, 4), (4, 4), (9, 9)])
def test_minimum_time_pads_short_inputs_only(rng: np.random.Generator, time: int, expected: int) -> None:
    inputs = rng.normal(size=(2, time, 3)).astype("float32")
    layer = MinimumTime(4)
    outputs = layer(inputs).numpy()
    assert outputs.shape == (2, expected, 3) == layer.compute_output_shape(inputs.shape)
    np.testing.assert_array_equal(outputs[:, :time], inputs)
    np.testing.assert_array_equal(outputs[:, time:], 0)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_ghost_vlad_computes_in_float32_under_mixed_precision(rng: np.random.Generator, policy: str) -> None:
    reference = random_ghost_vlad(rng, 4, 2, size=8)
    layer = GhostVLAD(4, 2, dtype=policy)
    descriptors, count = rng.normal(size=(2, 5, 8)).astype("float16"), np.array([5, 2])
    layer.build(descriptors.shape, count.shape)
    layer.set_weights(reference.get_weights())
    embedding, ghost_share = layer(descriptors, count)
    assert embedding.dtype == ghost_share.dtype == "float32"
    rounded = keras.ops.cast(keras.ops.cast(descriptors, layer.compute_dtype), "float32")
    np.testing.assert_allclose(embedding, reference(rounded, count)[0], atol=1e-6)


def test_cosines_do_not_depend_on_the_length_of_a_direction() -> None:
    layer = Cosines(3)
    layer.build((None, 2))
    layer.set_weights([np.array([[5.0, 0.0], [0.0, 0.1], [-3.0, -3.0]])])
    found = layer(np.array([[1.0, 0.0], [0.6, 0.8]]))
    # The last: (0.6 + 0.8) / sqrt(2), with the other sign.
    np.testing.assert_allclose(found, [[1.0, 0.0, -np.sqrt(0.5)], [0.6, 0.8, -0.98995]], atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        GhostVLAD(3, 0, name="vlad"),
        VggvoxVLAD(3, 0),
        SqueezeExcitation(7, dtype="mixed_bfloat16"),
        MinimumTime(5),
        TimeMask(),
        Cosines(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_come_back_from_their_config(layer: keras.Layer) -> None:
    config = keras.saving.serialize_keras_object(layer)
    assert config["registered_name"] == f"ser_tf>{type(layer).__name__}"
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_squeeze_excitation_hands_its_dtype_policy_down() -> None:
    layer = SqueezeExcitation(4, dtype="mixed_bfloat16")
    layer.build((None, None, 4, 8), (None,))
    assert layer.squeeze.dtype_policy.name == layer.excite.dtype_policy.name == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("layer", "arguments", "message"),
    [
        (GhostVLAD, {"clusters": 0}, "`clusters` argument: expected an integer of at least 1. Received: clusters=0"),
        (
            GhostVLAD,
            {"clusters": 2.0},
            "`clusters` argument: expected an integer of at least 1. Received: clusters=2.0",
        ),
        (
            GhostVLAD,
            {"ghost_clusters": -1},
            "`ghost_clusters` argument: expected an integer of at least 0. Received: ghost_clusters=-1",
        ),
        (
            SqueezeExcitation,
            {"reduction": True},
            "`reduction` argument: expected an integer of at least 1. Received: reduction=True",
        ),
        (VggvoxVLAD, {"clusters": 0}, "`clusters` argument: expected an integer of at least 1. Received: clusters=0"),
        (MinimumTime, {"minimum": 0}, "`minimum` argument: expected an integer of at least 1. Received: minimum=0"),
    ],
)
def test_wrong_arguments_are_refused(layer: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        layer(**arguments)
    assert message in str(caught.value)
