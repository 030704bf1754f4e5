import doctest
import json
import warnings

import keras
import numpy as np
import pytest

from ser_tf.errors import UserError
from ser_tf.network.losses import EmotionTripletLoss, TripletLoss
from ser_tf.training import monitor
from ser_tf.training.monitor import QUANTITIES, CollapseMonitor, CollapseWarning, MetricMonitor, metric_monitors

POLARITIES = ("negative", "negative", "positive", "neutral")
SAD, ANGRY, HAPPY, NEUTRAL = range(4)


def watched(loss, labels, points):
    monitors = metric_monitors(loss)
    for metric in monitors:
        metric.update_state(np.array(labels), np.array(points, "float32")[:, None])
    return {metric.name: float(metric.result()) for metric in monitors}


def test_plain_triplet_on_a_line():
    # Squared distances: 0-1 1, 0-3 9, 1-3 4. Margin 4: anchor 0: 1 - 9 + 4 < 0; anchor 1: 1 - 4 + 4 = 1 violated; the
    # anchor at 3 has no positive. Positives 1 and 1; negatives 9, 4 and, of the anchor at 3, (9 + 4) / 2: mean 6.5.
    # Spread: the mean is 4/3, (16 + 1 + 25) / 9 / 3 = 14/9. Collapse: (0 + 1) / (4 + 4).
    assert watched(TripletLoss(margin=4.0), [0, 0, 1], [0, 1, 3]) == pytest.approx(
        {
            "first_term_share": 2 / 3,
            "violated_share": 1 / 2,
            "positive_distance": 1.0,
            "negative_distance": 6.5,
            "spread": 14 / 9,
            "collapse_ratio": 1 / 8,
        }
    )


def test_emotion_triplet_on_a_line():
    # Sad at 0 and 1, angry at 2, happy at 4, neutral at 9; neutral is left out for polar anchors.
    # Sad 0: positive 1, related 4, negative 16: 1 - 4 + 0.1 and 4 - 16 + 0.15 violate nothing; both terms.
    # Sad 1: positive 1, related 1, negative 9: 0.1 violated, 1 - 9 + 0.15 not; both terms.
    # Angry 2: no positive; related 4 and 1, negative 4: 4 - 4 + 0.15 = 0.15 violated; second term.
    # Happy has no related emotion in the table and, like neutral, no positive: neither counts.
    # Negative distances: 16, 9, 4; happy, against all: (16 + 9 + 4 + 25) / 4; neutral: (81 + 64 + 49 + 25) / 4.
    # Spread: mean 3.2; (10.24 + 4.84 + 1.44 + 0.64 + 33.64) / 5. Collapse: (0 + 0.1 + 0.15) / (0.25 + 0.25 + 0.15).
    points = [0, 1, 2, 4, 9]
    result = watched(EmotionTripletLoss(POLARITIES), [SAD, SAD, ANGRY, HAPPY, NEUTRAL], points)
    assert result == pytest.approx(
        {
            "first_term_share": 2 / 5,
            "second_term_share": 3 / 5,
            "violated_share": 2 / 3,
            "positive_distance": 1.0,
            "negative_distance": (16 + 9 + 4 + 13.5 + 54.75) / 5,
            "spread": 10.16,
            "collapse_ratio": 0.25 / 0.65,
        }
    )


def test_an_epoch_is_the_mean_over_the_anchors_of_its_batches():
    share = MetricMonitor(TripletLoss(), "first_term_share")
    share.update_state([0, 0, 1, 1], np.zeros((4, 2)))
    share.update_state([0, 1], np.zeros((2, 2)))
    assert float(share.result()) == pytest.approx(4 / 6)


@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
def test_equal_embeddings_have_the_ratio_one_and_no_spread(mining):
    loss = EmotionTripletLoss(POLARITIES, mining=mining)
    result = watched(loss, [SAD, SAD, ANGRY, ANGRY, HAPPY, NEUTRAL], [1] * 6)
    assert (result["collapse_ratio"], result["violated_share"], result["spread"]) == pytest.approx((1, 1, 0))


def test_a_batch_without_triplets_has_no_violation_and_no_nan():
    result = watched(TripletLoss(), [0, 0], [0, 1])
    assert result["first_term_share"] == result["violated_share"] == result["collapse_ratio"] == 0
    assert np.isfinite(list(result.values())).all()


def test_serialisation():
    metric = MetricMonitor(EmotionTripletLoss(POLARITIES, beta=0.3), "spread", name="width")
    described = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    restored = keras.saving.deserialize_keras_object(described)
    assert restored.get_config() == metric.get_config()


def two_headed_model():
    inputs = keras.Input((8,))
    embedding = keras.layers.UnitNormalization(name="embedding")(keras.layers.Dense(4, name="dense")(inputs))
    logits = keras.layers.Dense(4, name="logits")(embedding)
    return keras.Model(inputs, {"embedding": embedding, "logits": logits})


def fit_two_heads(model, loss, learning_rate, epochs, rng):
    labels = np.tile(np.arange(4), 8)
    inputs = (np.eye(8)[labels] + rng.normal(scale=0.2, size=(32, 8))).astype("float32")
    model.compile(
        optimizer=keras.optimizers.SGD(learning_rate),
        loss={"embedding": loss, "logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        metrics={"embedding": metric_monitors(loss)},
    )
    return model.fit(
        inputs,
        {"embedding": labels, "logits": labels},
        batch_size=16,
        epochs=epochs,
        callbacks=[CollapseMonitor(loss)],
        verbose=0,
    ).history


def test_metrics_stand_in_the_logs_of_a_model_with_several_outputs(rng):
    loss = EmotionTripletLoss(POLARITIES)
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = fit_two_heads(two_headed_model(), loss, learning_rate=0.0, epochs=1, rng=rng)
    assert {f"embedding_{quantity}" for quantity in QUANTITIES} <= set(history)
    # With a learning rate of 0, every batch sees the same weights: the ratio times the level is the loss. A batch
    # deals 4 of each emotion: sad and angry have both terms, happy and neutral the plain one.
    level = np.mean([0.25, 0.25, 0.1, 0.1])
    assert history["embedding_collapse_ratio"][0] * level == pytest.approx(history["embedding_loss"][0], rel=1e-4)


def test_a_collapsed_network_is_reported(rng):
    model = two_headed_model()
    model.get_layer("dense").set_weights([np.zeros((8, 4)), np.ones(4)])
    with pytest.warns(CollapseWarning, match="epoch 2: .* is 100% of its value .* 0.000 where .* for 0.25") as record:
        fit_two_heads(model, EmotionTripletLoss(POLARITIES), learning_rate=0.0, epochs=4, rng=rng)
    assert len(record) == 1
    assert record[0].filename.endswith("monitor.py")  # where the command line looks for this project's warnings
    for remedy in ("learning rate", "mining 'all'", "softmax_weight", "S3"):
        assert remedy in str(record[0].message)


COLLAPSED = {"collapse_ratio": 0.95, "spread": 0.01}
WIDE = {"collapse_ratio": 0.95, "spread": 0.4}  # untrained, yet spread over the sphere
BELOW = {"collapse_ratio": 0.8, "spread": 0.01}
SHRINKING = {"collapse_ratio": 2.0, "spread": 0.01}  # hard mining on the way down


@pytest.mark.parametrize(
    ("epochs", "warned"),
    [
        ([COLLAPSED], []),
        ([COLLAPSED] * 5, [2]),
        ([COLLAPSED, WIDE, COLLAPSED, COLLAPSED], [4]),
        ([COLLAPSED] * 3 + [BELOW] + [COLLAPSED] * 3, [2, 6]),
        ([SHRINKING, COLLAPSED], [2]),
        ([WIDE, BELOW] * 2, []),
        # Spread 0.012 is a mean distance of 0.024, below a quarter of the margin of 0.1; 0.013 is above it.
        ([{"embedding_collapse_ratio": 1.05, "embedding_spread": 0.012}] * 2, [2]),
        ([{"embedding_collapse_ratio": 1.05, "embedding_spread": 0.013}] * 2, []),
        ([{"val_collapse_ratio": 1.0, "val_spread": 0.0, **WIDE}] * 3, []),
    ],
)
def test_warns_once_each_time_training_collapses(epochs, warned):
    callback = CollapseMonitor(TripletLoss())
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        for epoch, logs in enumerate(epochs):
            callback.on_epoch_end(epoch, logs)
    assert [int(str(warning.message).split(":")[0].removeprefix("epoch ")) for warning in record] == warned


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: MetricMonitor(TripletLoss(), "width"), "quantity: expected one of first_term_share, .*'width'"),
        (lambda: CollapseMonitor(TripletLoss()).on_epoch_end(0, {"loss": 1.0}), "add metric_monitors.* Received: loss"),
        (lambda: CollapseMonitor(TripletLoss()).on_epoch_end(0), "Received: no logs"),
    ],
)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(UserError, match=message):
        mistake()


def test_examples_in_the_docstrings():
    assert doctest.testmod(monitor, extraglobs={"TripletLoss": TripletLoss}).failed == 0
