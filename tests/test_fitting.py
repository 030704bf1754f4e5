import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from ser_tf.config import TrainingConfig
from ser_tf.errors import UserError
from ser_tf.training.fitting import Schedule, optimizer_of
from ser_tf.training.progress import Progress

STEP = TrainingConfig(maximum_epochs=5, patience_epochs=2)
COSINE = TrainingConfig(schedule="cosine", steps=100, warm_up_steps=10, learning_rate=0.5)


def progress_of(*scores: float) -> Progress:
    return Progress([{"loss": 1.0, "validation_uar": score} for score in scores])


@pytest.mark.parametrize(
    ("scores", "finished"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.4], False),  # one epoch without gain
        ([0.5, 0.4, 0.4], True),  # two
        ([0.5, 0.5, 0.5], True),  # an equal score is no gain
        ([0.5, 0.4, 0.6], False),
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.1, 0.2, 0.3, 0.4, 0.5], True),  # the schedule is through
    ],
)
def test_step_ends_after_two_epochs_without_gain_or_after_five(scores, finished):
    assert Schedule(STEP, from_weights=False, batches=7).is_finished(progress_of(*scores)) is finished


def test_step_keeps_the_best_epoch_and_cosine_the_last():
    progress = progress_of(0.2, 0.6, 0.4)
    assert Schedule(STEP, from_weights=False, batches=7).kept_epoch(progress) == 1
    assert Schedule(COSINE, from_weights=False, batches=7).kept_epoch(progress) == 2
    assert Schedule(COSINE, from_weights=False, batches=7).kept_epoch(progress_of()) == -1


@pytest.mark.parametrize(("batches", "epochs"), [(10, 10), (7, 15), (100, 1), (1000, 1)])  # 100 steps, rounded up
def test_cosine_has_its_steps_in_whole_epochs_and_scores_ten_of_them(batches, epochs):
    schedule = Schedule(COSINE, from_weights=False, batches=batches)
    assert schedule.epochs == epochs
    scored = [epoch for epoch in range(epochs) if schedule.is_scored(epoch)]
    assert len(scored) == min(epochs, 10)
    assert scored[-1] == epochs - 1
    assert schedule.is_finished(progress_of(*[0.1] * epochs))
    assert not schedule.is_finished(progress_of(*[0.1] * (epochs - 1)))


def test_given_weights_have_their_own_steps_and_learning_rate():
    training = replace(COSINE, steps_from_weights=30, learning_rate_from_weights=0.25)
    assert Schedule(training, from_weights=True, batches=10).epochs == 3
    assert Schedule(COSINE, from_weights=True, batches=10).epochs == 10  # those of every network, unless given
    rate = optimizer_of(training, from_weights=True)._learning_rate
    assert float(rate(10)) == pytest.approx(0.25)
    assert float(rate(30)) == pytest.approx(0)


def test_cosine_warms_up_and_falls_to_zero():
    rate = optimizer_of(COSINE, from_weights=False)._learning_rate
    # Linear to 0.5 in 10 steps, then 0.5 * (1 + cos(pi * share of the 90 others)) / 2.
    for step, expected in {0: 0, 5: 0.25, 10: 0.5, 55: 0.25, 70: 0.125, 100: 0, 120: 0}.items():
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6), step


def test_step_divides_the_learning_rate():
    training = replace(STEP, learning_rate=0.4, learning_rate_factor=0.5, learning_rate_epochs=2)
    (callback,) = Schedule(training, from_weights=False, batches=3).callbacks()
    assert [callback.schedule(epoch) for epoch in range(5)] == [0.4, 0.4, 0.2, 0.2, 0.1]


def trained(training: TrainingConfig) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    optimizer = optimizer_of(training, from_weights=False)
    model.compile(optimizer=optimizer, loss="mse")
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.build(model.trainable_variables)
    optimizer.apply([np.zeros(variable.shape) for variable in model.trainable_variables])
    return model


def test_weight_decay_spares_biases_and_normalisations():
    model = trained(replace(STEP, learning_rate=0.1, weight_decay=0.5))
    kernel, bias, gamma, beta = (np.asarray(variable) for variable in model.trainable_variables)
    np.testing.assert_allclose(kernel, 1 - 0.1 * 0.5)  # AdamW: w - rate * decay * w, where the gradient is zero
    for untouched in (bias, gamma, beta):
        np.testing.assert_allclose(untouched, 1)


def test_averages_need_the_cosine_schedule():
    assert optimizer_of(replace(COSINE, average_momentum=0.9), from_weights=False).use_ema
    with pytest.raises(UserError, match=r"average_momentum: expected 0 with the schedule step.*schedule cosine"):
        replace(STEP, average_momentum=0.9)


def test_an_epoch_without_a_score_is_blank_in_the_log(tmp_path):
    from ser_tf.runs.folder import RunFolder
    from ser_tf.training.fitting import write_log

    write_log(RunFolder(tmp_path), progress_of(math.nan, 0.5))
    assert (tmp_path / "log.csv").read_text().splitlines() == ["epoch,loss,validation_uar", "1,1.0,", "2,1.0,0.5"]
