from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from ser_tf.metrics import expected_calibration_error
from ser_tf.statistics.confidence import calibration, risk_coverage
from ser_tf.statistics.table import PredictionTable


def with_confidences(confidences: list[float], hits: list[int]) -> PredictionTable:
    emotions = ("happy", "sad")
    labels = pd.CategoricalDtype(list(emotions))
    rows = pd.DataFrame(
        {
            "strategy": "S1",
            "seed": 0,
            "fold": 1,
            "utterance": [str(number) for number in range(len(hits))],
            "speaker": "ravdess:01",
            "truth": ["sad" if hit else "happy" for hit in hits],
            "prediction": "sad",
            "happy": 1 - np.array(confidences),
            "sad": confidences,
        }
    ).astype({"truth": labels, "prediction": labels})
    return PredictionTable("ravdess", "complete", "0" * 16, "1" * 16, emotions, rows)


def confidence_and_hit(table: PredictionTable) -> tuple[np.ndarray, np.ndarray]:
    return table.rows[list(table.emotions)].max(axis=1).to_numpy(), (
        table.rows["truth"] == table.rows["prediction"]
    ).to_numpy()


def test_auroc_shows_whether_confidence_predicts_errors():
    # Two right and two wrong answers make four pairs; in three the right one is more confident.
    assert calibration(with_confidences([0.9, 0.6, 0.8, 0.55], [1, 1, 0, 0]), "S1").auroc == 0.75
    assert calibration(with_confidences([0.7] * 4, [1, 1, 0, 0]), "S1").auroc == 0.5
    assert calibration(with_confidences([0.7] * 2, [1, 1]), "S1").auroc is None


def test_calibration_equals_the_scores_of_a_run_and_scikit_learn(table_of):
    table = table_of({"S1": 0.3}, seeds=2, speakers=20)
    result = calibration(table, "S1")
    truth = table.rows["truth"].cat.codes.to_numpy()
    assert result.ece == pytest.approx(expected_calibration_error(truth, table.rows[list(table.emotions)].to_numpy()))
    confidence, hit = confidence_and_hit(table)
    accuracy, mean_confidence = calibration_curve(hit, confidence, n_bins=15)
    assert [one.accuracy for one in result.curve] == pytest.approx(accuracy)
    assert [one.confidence for one in result.curve] == pytest.approx(mean_confidence)
    assert sum(one.utterances for one in result.curve) == len(table.rows)


def test_only_the_strategy_asked_for_counts(table_of):
    table = table_of({"S1": 0.1, "S2": 0.8})
    alone = table.select(table.rows["strategy"] == "S1")
    assert calibration(table, "S1") == calibration(alone, "S1") != calibration(table, "S2")
    assert risk_coverage(table, "S1") == risk_coverage(alone, "S1") != risk_coverage(table, "S2")


def test_where_rounding_made_a_tie_the_confidence_is_that_of_the_prediction():
    table = with_confidences([0.5, 0.5], [1, 0])  # argmax of the probabilities would say happy
    (only,) = calibration(table, "S1").curve
    assert (only.confidence, only.accuracy) == (0.5, 0.5)


def test_risk_and_coverage_by_hand():
    # By falling confidence: hit, miss, hit, miss. Errors among the first k: 0/1, 1/2, 1/3, 2/4; mean 1/3.
    result = risk_coverage(with_confidences([0.6, 0.9, 0.7, 0.8], [0, 1, 1, 0]), "S1")
    assert result.coverage == [0.25, 0.5, 0.75, 1]
    assert result.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert result.threshold == [0.9, 0.8, 0.7, 0.6]
    assert result.area == pytest.approx(1 / 3)


@pytest.mark.parametrize("hits", [[1, 0, 0, 1, 1], [0, 1, 1, 1, 0]])
def test_equal_confidences_have_no_order(hits):
    # All alike: whatever is answered, two of five are errors.
    result = risk_coverage(with_confidences([0.8] * 5, hits), "S1")
    assert result.risk == pytest.approx([0.4] * 5)
    assert result.area == pytest.approx(0.4)


def test_the_curve_of_many_utterances_is_a_hundred_points_of_a_loop(table_of):
    table = table_of({"S1": 0.3}, speakers=20)
    confidence, hit = confidence_and_hit(table)
    risks = [1 - hit[confidence >= least].mean() for least in sorted(confidence, reverse=True)]
    result = risk_coverage(table, "S1")
    assert result.area == pytest.approx(np.mean(risks))
    assert result.area < 1 - hit.mean()  # the confidence knows something
    assert len(hit) > 300
    assert len(result.coverage) == 100
    assert result.coverage == pytest.approx(np.arange(1, 101) / 100, abs=1 / len(hit))
    for coverage, risk, threshold in zip(result.coverage, result.risk, result.threshold, strict=True):
        answered = confidence >= threshold
        assert (answered.mean(), 1 - hit[answered].mean()) == pytest.approx((coverage, risk))


def test_the_order_of_the_rows_does_not_matter(table_of):
    table = table_of({"S1": 0.3})
    shuffled = replace(table, rows=table.rows.sample(frac=1, random_state=1))
    assert risk_coverage(shuffled, "S1") == risk_coverage(table, "S1")
    assert calibration(shuffled, "S1").ece == pytest.approx(calibration(table, "S1").ece)
