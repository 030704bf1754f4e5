import doctest
import json
import os
import subprocess
import sys
from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf

from ser_tf.config import LossConfig
from ser_tf.errors import UserError
from ser_tf.network import losses
from ser_tf.network.losses import (
    AdditiveMarginSoftmax,
    EmotionTripletLoss,
    TripletLoss,
    additive_margin_softmax,
    class_relations,
    emotion_triplet_loss,
    triplet_loss,
)
from ser_tf.network.mining import MINING_MODES, Term, mined_hinge, squared_distances

RAVDESS = {
    "neutral": "neutral",
    "calm": "positive",
    "happy": "positive",
    "sad": "negative",
    "angry": "negative",
    "fearful": "negative",
    "disgust": "negative",
    "surprised": "positive",
}
CREMA_D = {
    "angry": "negative",
    "disgust": "negative",
    "fearful": "negative",
    "happy": "positive",
    "neutral": "neutral",
    "sad": "negative",
}
TABLES = {"ravdess": RAVDESS, "crema_d": CREMA_D}


def emotion_loss(table, **arguments):
    return EmotionTripletLoss(tuple(table.values()), **arguments)


def class_numbers(table, emotions):
    return np.array([list(table).index(emotion) for emotion in emotions.split()])


def unit_vectors(rng, count, size=5):
    vectors = rng.normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype("float32")


# The same losses as plain loops over samples and triplets.


def possible_terms(near, far, margin, mining):
    """The values that one term of one anchor may take: several where mining draws; none where it is absent."""
    violations = [max(p - n + margin, 0.0) for p, n in product(near, far)]
    if not violations:
        return []
    if mining == "hard":
        return [max(violations)]
    if mining == "all":
        violating = [violation for violation in violations if violation > 0]
        return [sum(violating) / len(violating) if violating else 0.0]
    return [max(p - min((n for n in far if n > p), default=max(far)) + margin, 0.0) for p in near]


def possible_values(labels, embeddings, mining, table=None, neutral="excluded"):
    """For every anchor, the values that its loss may take; none for anchors that do not count."""
    alpha, beta = 0.1, 0.15
    emotions = list(table or [])
    result = []
    for a, anchor in enumerate(labels):
        distance = [float(np.sum((embeddings[a].astype("float64") - other) ** 2)) for other in embeddings]
        positive = [distance[i] for i, label in enumerate(labels) if label == anchor and i != a]
        different = [distance[i] for i, label in enumerate(labels) if label != anchor]
        if table is None:
            result.append(possible_terms(positive, different, alpha, mining))
            continue
        polarity = table[emotions[anchor]]
        if polarity == "neutral" or list(table.values()).count(polarity) == 1:
            result.append(possible_terms(positive, different, alpha, mining))
            continue
        related, negative = [], []
        for i, label in enumerate(labels):
            other = table[emotions[label]]
            if other == polarity and label != anchor:
                related.append(distance[i])
            elif other != polarity and (other != "neutral" or neutral == "negative"):
                negative.append(distance[i])
        first = possible_terms(positive, related, alpha, mining)
        second = possible_terms(related, negative, beta, mining)
        result.append([x + y for x, y in product(first or [0.0], second or [0.0])] if first or second else [])
    return result


def assert_matches(values, valid, expected):
    np.testing.assert_array_equal(np.asarray(valid), [bool(possible) for possible in expected])
    for value, possible in zip(np.asarray(values), expected, strict=True):
        assert min(abs(value - number) for number in possible or [0.0]) < 1e-5


# Labels drawn from all classes leave some classes out of a batch of 12 and give others one sample.


@pytest.mark.parametrize("mining", MINING_MODES)
@pytest.mark.parametrize("neutral", ["excluded", "negative"])
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_emotion_triplet_equals_the_triple_loop(table, neutral, mining, rng):
    for _ in range(4):
        labels, embeddings = rng.integers(len(table), size=12), unit_vectors(rng, 12)
        values, valid = emotion_triplet_loss(labels, embeddings, tuple(table.values()), mining=mining, neutral=neutral)
        assert_matches(values, valid, possible_values(labels, embeddings, mining, table, neutral))


@pytest.mark.parametrize("mining", MINING_MODES)
def test_triplet_equals_the_triple_loop(mining, rng):
    for _ in range(4):
        labels, embeddings = rng.integers(5, size=12), unit_vectors(rng, 12)
        values, valid = triplet_loss(labels, embeddings, mining=mining)
        assert_matches(values, valid, possible_values(labels, embeddings, mining))


# On a line, anchor at 0, squared distances: positive 4, negatives 1, 4.41 and 25, margin 1.
#   hard: 4 - 1 + 1 = 4; semihard: the nearest beyond 4 is 4.41, 0.59; all: mean of 4 and 0.59; 25 is far.
# Without negatives beyond the positive, at 1 and 2.25:
#   hard: 4; semihard: the farthest, 4 - 2.25 + 1 = 2.75; all: mean of 4 and 2.75.
@pytest.mark.parametrize(
    ("negatives", "mining", "expected"),
    [
        ([1.0, -2.1, 5.0], "hard", 4.0),
        ([1.0, -2.1, 5.0], "semihard", 0.59),
        ([1.0, -2.1, 5.0], "all", 2.295),
        ([1.0, -1.5], "hard", 4.0),
        ([1.0, -1.5], "semihard", 2.75),
        ([1.0, -1.5], "all", 3.375),
    ],
)
def test_triplets_on_a_line(negatives, mining, expected):
    points = np.array([[0.0], [2.0], *([x] for x in negatives)], "float32")
    values, _ = triplet_loss([0, 0] + [1] * len(negatives), points, margin=1.0, mining=mining)
    assert float(values[0]) == pytest.approx(expected, abs=1e-5)


# On a circle, anchor at 0 degrees; squared distance 2 - 2 cos angle: 45 is 0.5858, 60 1, 90 2, 120 3, 180 4.
# Positives 1 and 2, related 0.5858 and 3, negatives 2 and 4.
#   hard: (2 - 0.5858 + 0.1) + (3 - 2 + 0.15) = 2.6642
#   semihard: beyond either positive lies related 3; beyond related 0.5858 and 3 lie negatives 2 and 4: nothing violates
#   all: positives 1 and 2 against related 0.5858, 0.5142 and 1.5142, mean 1.0142; related 3 against negative 2, 1.15
@pytest.mark.parametrize(("mining", "expected"), [("hard", 2.6642), ("semihard", 0.0), ("all", 2.1642)])
def test_emotion_triplets_on_a_circle(mining, expected):
    labels = class_numbers(RAVDESS, "sad sad sad angry fearful happy calm")
    angles = np.radians([0, 60, -90, -45, 120, 90, 180])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    values, _ = emotion_triplet_loss(labels, points, tuple(RAVDESS.values()), mining=mining)
    assert float(values[0]) == pytest.approx(expected, abs=1e-4)


def test_semihard_draws_every_positive_about_equally(rng):
    # 400 anchors, 4 positives each, and one negative at 0, nearer than any: the value is the drawn distance + 1.
    distances = rng.uniform(0.5, 1.0, size=(400, 400)).astype("float32")
    distances[:, 4] = 0.0
    column = np.arange(400)
    term = Term(nearer=np.tile(column < 4, (400, 1)), farther=np.tile(column == 4, (400, 1)), margin=1.0)
    drawn = np.asarray(mined_hinge(distances, term, "semihard")[0])[:, None] - 1.0
    counts = np.bincount(np.abs(distances[:, :4] - drawn).argmin(axis=1))
    # 100 expected each with a standard deviation of 8.7; 65 to 135 is four of them.
    assert counts.min() > 65
    assert counts.max() < 135


@pytest.mark.parametrize(
    ("table", "neutral", "emotion", "related", "negative"),
    [
        (RAVDESS, "excluded", "sad", "angry fearful disgust", "calm happy surprised"),
        (RAVDESS, "negative", "sad", "angry fearful disgust", "neutral calm happy surprised"),
        (RAVDESS, "excluded", "calm", "happy surprised", "sad angry fearful disgust"),
        (RAVDESS, "excluded", "neutral", "", "calm happy sad angry fearful disgust surprised"),
        (CREMA_D, "excluded", "angry", "disgust fearful sad", "happy"),
        (CREMA_D, "negative", "angry", "disgust fearful sad", "happy neutral"),
        (CREMA_D, "excluded", "happy", "", "angry disgust fearful neutral sad"),
    ],
)
def test_class_relations(table, neutral, emotion, related, negative):
    emotions = np.array(list(table))
    rows = (relation[list(table).index(emotion)] for relation in class_relations(tuple(table.values()), neutral))
    assert [" ".join(emotions[row]) for row in rows] == [related, negative]


# All embeddings equal: each term that is present gives its margin, 0.1 the first and 0.15 the second.
@pytest.mark.parametrize("mining", MINING_MODES)
@pytest.mark.parametrize(
    ("table", "emotions", "expected"),
    [
        pytest.param(RAVDESS, "sad sad angry happy", [0.25, 0.25, 0.15, None], id="all terms"),
        pytest.param(RAVDESS, "sad angry happy calm", [0.15] * 4, id="no positives"),
        pytest.param(RAVDESS, "sad sad happy happy", [None] * 4, id="no related"),
        pytest.param(RAVDESS, "sad sad angry", [0.1, 0.1, None], id="no negatives"),
        pytest.param(RAVDESS, "sad sad angry neutral", [0.1, 0.1, None, None], id="neutral excluded"),
        pytest.param(RAVDESS, "neutral neutral sad", [0.1, 0.1, None], id="neutral takes the plain triplet"),
        pytest.param(CREMA_D, "happy happy neutral", [0.1, 0.1, None], id="happy takes the plain triplet"),
        pytest.param(RAVDESS, "sad sad sad", [None] * 3, id="one emotion"),
        pytest.param(RAVDESS, "sad", [None], id="one sample"),
    ],
)
def test_collapsed_batches(table, emotions, expected, mining):
    labels = class_numbers(table, emotions)
    embeddings = np.full((len(labels), 3), 3**-0.5, "float32")
    values, valid = emotion_triplet_loss(labels, embeddings, tuple(table.values()), mining=mining)
    np.testing.assert_allclose(values, [value or 0.0 for value in expected], rtol=1e-6)
    np.testing.assert_array_equal(valid, [value is not None for value in expected])
    counted = [value for value in expected if value is not None]
    loss = emotion_loss(table, mining=mining)(labels, embeddings)
    assert float(loss) == pytest.approx(np.mean(counted) if counted else 0.0, rel=1e-6)


# RAVDESS dealt 8 x 4: 28 polar anchors at 0.25 and 4 neutral ones at 0.1; CREMA-D 6 x 4: neutral and happy at 0.1.
@pytest.mark.parametrize(("table", "expected"), [(RAVDESS, (28 * 0.25 + 4 * 0.1) / 32), (CREMA_D, 0.2)])
def test_collapse_level_of_a_balanced_batch(table, expected):
    labels = np.repeat(np.arange(len(table)), 4)
    assert float(emotion_loss(table)(labels, np.ones((len(labels), 2)))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("mining", MINING_MODES)
@pytest.mark.parametrize("loss_class", [TripletLoss, lambda **options: emotion_loss(RAVDESS, **options)])
@pytest.mark.parametrize("embeddings", [np.zeros((16, 4)), np.full((16, 4), 0.5)], ids=["zero", "equal"])
def test_gradients_are_finite_for_equal_embeddings(loss_class, embeddings, mining):
    embeddings = tf.Variable(embeddings, dtype="float32")
    with tf.GradientTape() as tape:
        loss = loss_class(mining=mining)(np.repeat(np.arange(8), 2), embeddings)
    assert np.isfinite(tape.gradient(loss, embeddings)).all()


@pytest.mark.parametrize("mining", MINING_MODES)
def test_a_batch_without_valid_anchors_moves_nothing(mining, rng):
    embeddings = tf.Variable(unit_vectors(rng, 6))
    with tf.GradientTape() as tape:
        loss = emotion_loss(RAVDESS, mining=mining)(class_numbers(RAVDESS, "sad " * 6), embeddings)
    assert float(loss) == 0.0
    np.testing.assert_array_equal(tape.gradient(loss, embeddings), np.zeros((6, 5)))


# Anchor 0, positive 1, negative 2 on a line, only this anchor's value: (a - p)^2 - (a - n)^2 + 4 = 1 violates; its
# gradient is 2 (a - p) - 2 (a - n) = 2 at the anchor, -2 (a - p) = 2 at the positive, 2 (a - n) = -4 at the negative.
@pytest.mark.parametrize("mining", MINING_MODES)
def test_gradient_pulls_the_positive_and_pushes_the_negative(mining):
    points = tf.Variable([[0.0], [1.0], [2.0]])
    with tf.GradientTape() as tape:
        value = triplet_loss([0, 0, 1], points, margin=4.0, mining=mining)[0][0]
    assert float(value) == 1.0
    np.testing.assert_array_equal(tape.gradient(value, points), [[2.0], [2.0], [-4.0]])


@pytest.mark.parametrize("mining", MINING_MODES)
def test_a_nan_embedding_shows_in_the_loss(mining, rng):
    embeddings = unit_vectors(rng, 8)
    embeddings[3, 0] = np.nan
    assert np.isnan(float(TripletLoss(mining=mining)(np.arange(8) // 2, embeddings)))


def test_equal_embeddings_are_exactly_zero_apart(rng):
    embeddings = np.repeat(unit_vectors(rng, 1, size=4096), 32, axis=0)
    np.testing.assert_array_equal(squared_distances(embeddings), np.zeros((32, 32)))


def test_half_precision_embeddings_are_computed_in_float32(rng):
    labels, embeddings = np.arange(12) % 3, unit_vectors(rng, 12).astype("float16")
    half, single = (TripletLoss()(labels, embeddings.astype(dtype)) for dtype in ("float16", "float32"))
    assert keras.backend.standardize_dtype(half.dtype) == "float32"
    assert float(half) == float(single)


@pytest.mark.parametrize("mining", MINING_MODES)
def test_graph_of_unknown_batch_size_equals_eager(mining, rng):
    loss = emotion_loss(RAVDESS, mining=mining)
    graph = tf.function(
        lambda labels, embeddings: loss(labels, embeddings),
        input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([None, 5], tf.float32)],
    )
    for count in (32, 7):
        labels, embeddings = rng.integers(8, size=count).astype("int32"), unit_vectors(rng, count)
        assert float(graph(labels, embeddings)) == pytest.approx(float(loss(labels, embeddings)), rel=1e-5)


@pytest.mark.parametrize("shape", [(16,), (16, 1)])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
def test_labels_may_be_a_column_and_floats(dtype, shape, rng):
    labels, embeddings = rng.integers(8, size=16), unit_vectors(rng, 16)
    loss = emotion_loss(RAVDESS)
    assert float(loss(labels.astype(dtype).reshape(shape), embeddings)) == float(loss(labels, embeddings))


def test_the_mean_is_over_the_anchors_that_count_and_weights_do_not_change_its_divisor():
    # Values 0 and 0.5, and a last point without a positive; with weights (0 * 1 + 0.5 * 3 + 0 * 5) / 2.
    labels, points = [0, 0, 1], [[0.0], [1.0], [2.0]]
    loss = TripletLoss(margin=0.5, mining="hard")
    assert float(loss(labels, points)) == pytest.approx(0.25)
    assert float(loss(labels, points, sample_weight=[1.0, 3.0, 5.0])) == pytest.approx(0.75)


@pytest.mark.parametrize(("loss", "column"), [(TripletLoss(), False), (emotion_loss(RAVDESS), True)])
def test_training_lowers_the_loss(loss, column, rng):
    labels = np.arange(64) % 8
    inputs = (np.eye(8)[labels] + rng.normal(scale=0.3, size=(64, 8))).astype("float32")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.UnitNormalization()])
    model.compile(optimizer=keras.optimizers.Adam(0.03), loss=loss)
    targets = labels[:, None] if column else labels
    history = model.fit(inputs, targets, batch_size=32, epochs=15, shuffle=False, verbose=0).history["loss"]
    assert history[-1] < 0.7 * history[0]


@pytest.mark.parametrize(
    "loss",
    [
        TripletLoss(margin=0.3, mining="hard", name="plain"),
        emotion_loss(CREMA_D, alpha=0.2, beta=0.4, mining="semihard", neutral="negative", name="emotion"),
    ],
    ids=["triplet", "emotion"],
)
def test_serialisation_keeps_every_argument(loss, rng):
    described = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    restored = keras.saving.deserialize_keras_object(described)
    assert restored.get_config() == loss.get_config()
    assert restored.name == loss.name
    labels, embeddings = rng.integers(6, size=24), unit_vectors(rng, 24)
    assert float(restored(labels, embeddings)) == float(loss(labels, embeddings))


def test_defaults_are_those_of_the_configuration():
    config = LossConfig()
    plain, emotion = TripletLoss(), emotion_loss(RAVDESS)
    assert (plain.margin, plain.mining) == (config.alpha, config.mining)
    assert (emotion.alpha, emotion.beta) == (config.alpha, config.beta)
    assert (emotion.mining, emotion.neutral) == (config.mining, config.neutral)


BATCH = ([0, 1], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: TripletLoss(mining="easy"), "mining: expected one of hard, semihard, all. Received: mining='easy'"),
        (lambda: triplet_loss(*BATCH, mining="easy"), "mining: expected one of hard, semihard, all."),
        (lambda: TripletLoss(margin=0.0), "margin: expected a margin above 0. Received: margin=0.0"),
        (lambda: triplet_loss(*BATCH, margin=-1.0), "margin: expected a margin above 0. Received: margin=-1.0"),
        (lambda: emotion_loss(RAVDESS, alpha=float("nan")), "alpha: expected a margin above 0. Received: alpha=nan"),
        (lambda: emotion_loss(RAVDESS, beta=-0.1), "beta: expected a margin above 0. Received: beta=-0.1"),
        (lambda: emotion_triplet_loss(*BATCH, ["neutral"] * 2, beta=0), "beta: expected a margin above 0."),
        (lambda: emotion_loss(RAVDESS, neutral="positive"), "neutral: expected one of excluded, negative. Received"),
        (
            lambda: EmotionTripletLoss(["sad"]),
            "polarities: expected one of negative, positive, neutral for every class",
        ),
        (lambda: EmotionTripletLoss([]), "polarities: expected one of negative, positive, neutral for every class"),
        (lambda: EmotionTripletLoss("negative"), "polarities: expected .* Received: polarities='negative'"),
        (lambda: triplet_loss([0, 1], np.ones((2, 3, 4))), r"embeddings: expected the shape \[batch, size\]"),
        (lambda: TripletLoss()(np.eye(2), np.ones((2, 3))), r"labels: expected class numbers .* shape \(2, 2\)"),
    ],
)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()


def test_examples_in_the_docstrings():
    assert doctest.testmod(losses).failed == 0


JAX_SCRIPT = """
import json, sys
import jax, keras, numpy as np
from ser_tf.network.losses import EmotionTripletLoss, TripletLoss

assert keras.backend.backend() == "jax"
task = json.load(sys.stdin)
labels, embeddings = np.array(task["labels"]), np.array(task["embeddings"], "float32")
results = {}
for mining in task["minings"]:
    for loss in (TripletLoss(mining=mining), EmotionTripletLoss(task["polarities"], mining=mining)):
        compiled = jax.jit(jax.value_and_grad(lambda x: loss(labels, x)))
        for name, batch in (("random", embeddings), ("equal", np.ones_like(embeddings))):
            for _ in range(2):  # twice: a leaked tracer would show in the second call
                value, gradient = compiled(batch)
            results[f"{loss.name} {mining} {name}"] = [float(value), np.asarray(gradient).tolist()]
print(json.dumps(results))
"""


def test_jax_agrees_with_tensorflow(rng):
    pytest.importorskip("jax", reason="the second backend is not installed: pip install -e '.[jax]'")
    # Multiples of 1/8 have exact squared distances, so that semihard draws are the same on both backends.
    labels, embeddings = rng.integers(8, size=32), rng.integers(-4, 5, size=(32, 6)) / 8
    task = {
        "labels": labels.tolist(),
        "embeddings": embeddings.tolist(),
        "polarities": list(RAVDESS.values()),
        "minings": MINING_MODES,
    }
    finished = subprocess.run(
        [sys.executable, "-c", JAX_SCRIPT],
        input=json.dumps(task),
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads(finished.stdout)
    for mining in MINING_MODES:
        for loss in (TripletLoss(mining=mining), emotion_loss(RAVDESS, mining=mining)):
            for name, batch in (("random", embeddings), ("equal", np.ones_like(embeddings))):
                variable = tf.Variable(batch, dtype="float32")
                with tf.GradientTape() as tape:
                    value = loss(labels, variable)
                other_value, other_gradient = results[f"{loss.name} {mining} {name}"]
                assert float(value) == pytest.approx(other_value, rel=1e-5)
                np.testing.assert_allclose(tape.gradient(value, variable), other_gradient, atol=1e-5)


def test_additive_margin_softmax_is_the_formula_of_wang():
    cosines = np.array([[0.9, 0.1, -0.5], [0.2, 0.3, 0.4]])
    labels, margin, scale = [0, 2], 0.35, 30.0
    expected = []
    for row, label in zip(cosines, labels, strict=True):
        own = np.exp(scale * (row[label] - margin))
        others = sum(np.exp(scale * value) for place, value in enumerate(row) if place != label)
        expected.append(-np.log(own / (own + others)))
    np.testing.assert_allclose(additive_margin_softmax(labels, cosines, margin, scale), expected, rtol=1e-4, atol=1e-6)
    loss = AdditiveMarginSoftmax(margin, scale)
    assert float(loss(np.array([0.0, 2.0]), cosines)) == pytest.approx(np.mean(expected), rel=1e-4)
    again = AdditiveMarginSoftmax.from_config(loss.get_config())
    assert (again.margin, again.scale) == (margin, scale)


@pytest.mark.parametrize(("margin", "scale"), [(-0.1, 30.0), (0.35, 0.0), (float("nan"), 30.0)])
def test_additive_margin_softmax_refuses(margin, scale):
    with pytest.raises(UserError, match=r"am_softmax: expected a margin of at least 0 and a scale above 0. Received"):
        AdditiveMarginSoftmax(margin, scale)
