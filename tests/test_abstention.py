"""The threshold for a given risk, and its effect on validation and test speakers."""

import shutil

import numpy as np
import pytest

from ser_tf.config import Config
from ser_tf.errors import UserError
from ser_tf.runs.files import write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.serving.abstention import Abstention, Outcome, lowest_threshold

FALLING = np.linspace(0.99, 0.5, 50)


def hits(*wrong: int) -> np.ndarray:
    """Of 50 recordings, the most confident first, all are named rightly but these."""
    return ~np.isin(np.arange(50), wrong)


@pytest.mark.parametrize(
    ("wrong", "risk", "answered"),
    [
        # Errors at the 36th and 41st to 50th place: 1 of 40 are 2.5 %, 2 of 41 are 4.9 %, 11 of 50 are 22 %.
        ((35, *range(40, 50)), 0.025, 40),
        ((35, *range(40, 50)), 0.05, 41),
        ((35, *range(40, 50)), 0.0, 35),
        # Five errors in front, then none: the risk falls to 5 of 50.
        (range(5), 0.1, 50),
    ],
)
def test_the_threshold_answers_as_many_as_the_risk_allows(rng, wrong, risk, answered):
    shuffled = rng.permutation(50)
    threshold = lowest_threshold(FALLING[shuffled], hits(*wrong)[shuffled], risk)
    assert (threshold <= FALLING).sum() == answered


def test_whoever_may_answer_all_does_not_abstain():
    assert lowest_threshold(FALLING, hits(0), 0.02) == 0


def test_equals_are_answered_together():
    # 30 at 0.9 with 3 errors; 20 at 0.6, of which the ten that are listed first are right: 3 of 40 would keep 8 %.
    confidence = np.repeat([0.9, 0.6], [30, 20])
    assert lowest_threshold(confidence, hits(0, 1, 2, *range(40, 50)), 0.1) == 0.9
    with pytest.raises(UserError, match=r"at least 0\.100"):
        lowest_threshold(confidence, hits(0, 1, 2, *range(40, 50)), 0.08)


def test_a_risk_that_cannot_be_had_is_refused_with_the_least_that_can():
    # One error in front: 1 of 50 is the least; 1 of 3 would not count, being fewer than 30.
    message = r"^risk: expected at least 0\.020, .* \(50 of 50 recordings answered\)\. Received: risk=0\.01$"
    with pytest.raises(UserError, match=message):
        lowest_threshold(FALLING, hits(0), 0.01)


def test_too_few_recordings_choose_no_threshold():
    with pytest.raises(UserError, match=r"^risk: expected at least 30 validation recordings .* Received: 29; omit"):
        lowest_threshold(FALLING[:29], hits()[:29], 0.5)


@pytest.fixture
def run(tmp_path):
    """A folder with a finished run's predictions: 40 validation recordings, right above 0.605 and wrong below."""
    run = RunFolder(tmp_path / "run")
    run.begin({}, Config())
    write_json(run.metrics, {})
    lines = ["side,file,speaker,truth,prediction,happy,sad,angry"]
    for side, shares in (("validation", np.linspace(0.9, 0.51, 40)), ("test", (0.95, 0.8, 0.6, 0.55))):
        for place, share in enumerate(shares):
            truth = "happy" if share > 0.605 else "sad"
            lines.append(
                f"{side},{side}-{place}.wav,table:{side}-{place % 2},{truth},happy,{share:.6f},{1 - share:.6f},0"
            )
    run.predictions.write_text("\n".join(lines) + "\n")
    return run.path


def test_what_it_comes_to_is_told_of_who_chose_it_and_of_who_did_not(run):
    # 0.90, 0.89, ..., 0.61 are 30. Of 33 answered, down to 0.58, 3 are wrong, 9.1 %; of 34, 4 are, 11.8 %.
    abstention = Abstention.for_risk(run, 0.1)
    assert abstention.threshold == pytest.approx(0.58)
    assert abstention.validation == Outcome(recordings=40, speakers=2, coverage=33 / 40, risk=pytest.approx(3 / 33))
    # Of 0.95, 0.8, 0.6 and 0.55 three are answered, and the last of them is wrong.
    assert abstention.test == Outcome(recordings=4, speakers=2, coverage=0.75, risk=pytest.approx(1 / 3))
    assert [abstention.abstains(share) for share in (0.57, 0.58, 0.59)] == [True, False, False]
    assert str(abstention) == (
        "abstains below a probability of 0.5800. Validation speakers (2): 82.5 % answered, 9.1 % of those wrong; this "
        "may be optimistic, since they also chose the temperature and, in some runs, the epoch and the SVM's "
        "parameters. Test speakers (2), not used for any choice: 75.0 % answered, 33.3 % of those wrong"
    )


def test_where_nothing_is_answered_there_is_no_risk():
    assert str(Outcome(recordings=4, speakers=1, coverage=0.0, risk=None)) == "0.0 % answered"


@pytest.mark.parametrize("risk", [-0.1, 1.1, 30, float("nan")])
def test_a_risk_is_a_share(run, risk):
    with pytest.raises(UserError, match=r"^risk: expected a share of the answers, from 0 to 1\. Received: risk="):
        Abstention.for_risk(run, risk)


def test_a_run_without_its_predictions_is_refused_by_name(run):
    (run / "predictions.csv").unlink()
    with pytest.raises(UserError, match=rf"^{run}/predictions.csv: expected the predictions of a run"):
        Abstention.for_risk(run, 0.3)


def test_a_run_that_kept_no_validation_side_is_refused(run):
    path = run / "predictions.csv"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("validation")))
    with pytest.raises(UserError, match=r"Received: no row of the validation side; restore the file or train the run"):
        Abstention.for_risk(run, 0.3)


def test_an_export_tells_the_threshold_of_its_run(run, tmp_path):
    assets = tmp_path / "out" / "3" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "saved_model.pb").touch()
    with pytest.raises(UserError, match=rf"^{assets}/predictions.csv: expected .* older exports lack; export it again"):
        Abstention.for_risk(tmp_path / "out", 0.1)
    shutil.copy(run / "predictions.csv", assets)  # test_export.py holds that an export has it
    for exported in (tmp_path / "out", assets.parent):
        assert Abstention.for_risk(exported, 0.1) == Abstention.for_risk(run, 0.1)


def test_an_export_to_onnx_or_litert_tells_the_threshold_of_its_run(run, tmp_path):
    exported = tmp_path / "onnx"
    exported.mkdir()
    (exported / "labels.txt").write_text("happy\nsad\nangry\n")
    with pytest.raises(UserError, match=rf"^{exported}/predictions.csv: expected the predictions of a run"):
        Abstention.for_risk(exported, 0.1)
    shutil.copy(run / "predictions.csv", exported)  # test_export_engines.py holds that both formats have these files
    assert Abstention.for_risk(exported, 0.1) == Abstention.for_risk(run, 0.1)


def test_a_risk_that_every_answer_meets_is_told(run):
    # Of all 40 the 10 from 0.60 down are wrong: 25 %.
    abstention = Abstention.for_risk(run, 0.25)
    assert abstention.threshold == 0
    told = "never abstains, since all answers together keep a risk of 0.25. Validation speakers (2): 100.0 % ans"
    assert str(abstention).startswith(told)
