"""Equal error rate and detection cost."""

import numpy as np
import pytest
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from ser_tf.pretraining.verification import verification


def test_equal_error_rate_of_scores_that_can_be_counted():
    # Thresholds between the scores, from below: misses 0, 0, 0, 1/4, 1/4, 2/4, ... and false alarms 1, 3/4, 2/4, 2/4,
    # 1/4, 1/4, ...: behind .4 a quarter of each.
    same = np.array([False, False, True, False, True, False, True, True])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    found = verification(same, scores)
    assert (found.trials, found.same_speaker) == (8, 4)
    assert found.eer == pytest.approx(0.25)
    # The cheapest threshold rejects every pair of two speakers, and misses the two of one below .6: 2/4 of 1.
    assert found.min_dcf == {"0.01": pytest.approx(0.5), "0.05": pytest.approx(0.5)}


def test_detection_cost_weighs_a_false_alarm_by_its_prior():
    # 100 pairs of two speakers: one at 1, above the pairs of one speaker at .5, the others at 0. With prior .05 that
    # alarm costs .95 * .01 / .05 = .19; with .01, .99 * .01 / .01 = .99, a little less than to accept nothing.
    same = np.repeat([False, True], [100, 10])
    scores = np.concatenate([[1.0], np.zeros(99), np.full(10, 0.5)])
    assert verification(same, scores).min_dcf == {"0.01": pytest.approx(0.99), "0.05": pytest.approx(0.19)}


def test_scores_of_equal_value_are_on_one_side_of_every_threshold():
    found = verification(np.array([True, False, True, False]), np.zeros(4))
    assert found.eer == pytest.approx(0.5)
    assert set(found.min_dcf.values()) == {1.0}


def test_equal_error_rate_agrees_with_the_roc_of_scikit_learn(rng):
    same = rng.random(500) < 0.3
    scores = np.round(same + rng.normal(size=500), 1)  # many are equal
    alarms, hits, _ = roc_curve(same, scores, drop_intermediate=False)
    expected = brentq(lambda rate: 1 - rate - np.interp(rate, alarms, hits), 0, 1)
    assert verification(same, scores).eer == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("first", "second", "eer", "cost"), [(1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 1.0, 1.0)])
def test_two_trials_are_told_apart_or_confused(first, second, eer, cost):
    found = verification(np.array([True, False]), np.array([first, second]))
    assert found.eer == eer
    assert set(found.min_dcf.values()) == {cost}  # 1: it is cheapest to reject every trial


def test_a_diverged_network_is_at_chance():
    assert verification(np.array([True, False, False]), np.full(3, np.nan)).eer == pytest.approx(0.5)
