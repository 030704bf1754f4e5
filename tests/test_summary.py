import json
from dataclasses import asdict

import pytest

from ser_tf.corpora.demographics import demographics_of
from ser_tf.errors import UserError
from ser_tf.statistics.comparison import compare_strategies
from ser_tf.statistics.scores import strategy_scores
from ser_tf.statistics.summary import summarise


def test_a_summary_holds_everything_and_can_be_written_as_json(table_of):
    table = table_of({"S1": 0.2, "S5": 0.5}, seeds=2)
    demographics = demographics_of(sorted(table.rows["speaker"].unique()))
    summary = summarise(table, demographics)
    assert summary.strategies.keys() == {"S1", "S5"}
    assert summary.strategies["S5"].scores == strategy_scores(table, "S5")
    assert summary.comparisons == list(compare_strategies(table))
    written = json.loads(json.dumps(asdict(summary), allow_nan=False))
    assert written["scheme_hash"] == table.scheme_hash
    assert (written["confidence_level"], written["generator_seed"]) == (0.95, 0)
    assert written["strategies"]["S5"]["scores"] == asdict(summary.strategies["S5"].scores)
    assert written["strategies"]["S1"].keys() == {"scores", "calibration", "risk_coverage", "groups", "exclusions"}
    assert written["strategies"]["S1"]["groups"]["sex"]["male"]["speakers"] == 3


def test_a_summary_refuses_what_cannot_be_compared(table_of):
    table = table_of({"S1": 0.2, "S5": 0.5})
    part = table.select((table.rows["strategy"] == "S1") | (table.rows["fold"] < 3))
    with pytest.raises(UserError, match=r"^S5, seed 0: expected the same utterances"):
        summarise(part, demographics_of([]))
