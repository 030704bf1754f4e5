"""A card states training data, licences and scores of a run."""

import json
import shutil

import pytest

from ser_tf.corpora.facts import KNOWN_FACTS, facts_of
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.errors import UserError
from ser_tf.runs.folder import RunFolder
from ser_tf.serving.model_card import model_card

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def run_copy(finetuned, tmp_path):
    """A copy of a finished run that a test may change."""
    return RunFolder(shutil.copytree(finetuned("S5").path, tmp_path / "mine"))


def test_every_known_corpus_has_its_facts():
    assert {kind.name for kind in KNOWN_CORPORA} <= KNOWN_FACTS.keys()
    assert facts_of("ravdess").licence == "CC BY-NC-SA 4.0"
    assert facts_of("crema_d").licence == "ODbL 1.0"
    assert facts_of("table").licence == "not known to ser_tf"


def test_it_says_what_the_run_files_say(run_copy):
    card = model_card(run_copy)
    metrics = json.loads(run_copy.metrics.read_text())
    assert card.startswith("# Model card: S5 on table, complete fold 1\n")
    assert "happy, sad, angry" in card
    assert "- Run: `mine`" in card
    assert "an RBF SVM on the embedding" in card
    assert "- Trained on 4 speakers (table:3, table:4, table:5, table:6)." in card
    assert "- Tested on 1 speaker (table:1), none of whom it was trained on." in card
    test = metrics["test"]
    # One test speaker, so there is no interval.
    for name, share in {"WA": test["wa"], "UAR": test["uar"], "recall of sad": test["recall"]["sad"]}.items():
        assert f"| {name} | {100 * share:.1f} | none |" in card
    for emotion, row in zip(metrics["emotions"], test["confusion"], strict=True):
        assert f"| {emotion} | {' | '.join(map(str, row))} |" in card
    assert f"Expected calibration error: {100 * test['ece']:.1f} points." in card
    assert "| recordings of the user's own (table) | not known to ser_tf |" in card
    assert all(f"\n## {title}\n" in card for title in ("Origin", "Data", "Quality", "Intended use", "Limits"))


def test_the_licence_of_every_corpus_that_was_heard_is_told(run_copy):
    # Its fold is of RAVDESS, and its starting weights were trained on speakers of the table.
    content = json.loads(run_copy.identity.read_text())
    content["identity"]["train_speakers"] = ["ravdess:01"]
    run_copy.identity.write_text(json.dumps(content))
    card = model_card(run_copy)
    assert "CC BY-NC-SA 4.0 | no commercial use" in card
    assert "recordings of the user's own (table)" in card
    assert "acted emotion" in card.partition("## Limits")[2]


def test_two_speakers_give_an_interval_and_a_warning(run_copy):
    lines = run_copy.predictions.read_text().splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("test,"))
    lines[place] = lines[place].replace("table:1", "table:9")
    run_copy.predictions.write_text("\n".join(lines) + "\n")
    card = model_card(run_copy)
    assert "intervals resample 2 speakers: too few to trust them." in card
    assert "| UAR |" in card
    (uar,) = [line for line in card.splitlines() if line.startswith("| UAR |")]
    assert " to " in uar


def test_an_unfinished_run_has_no_card(run_copy):
    run_copy.metrics.unlink()
    with pytest.raises(UserError, match="this run is not finished"):
        model_card(run_copy)


def test_a_script_in_a_name_is_text(run_copy):
    content = json.loads(run_copy.identity.read_text())
    content["identity"]["scheme"] = "<script>alert(1)</script>"
    run_copy.identity.write_text(json.dumps(content))
    card = model_card(run_copy)
    assert "<" not in card
    assert "&lt;script>alert(1)&lt;/script>" in card


def test_a_run_of_another_version_still_has_a_card(run_copy):
    content = json.loads(run_copy.identity.read_text())
    del content["made_with"]
    run_copy.identity.write_text(json.dumps(content))
    assert "- Code: ser_tf of unknown version, commit unknown; ." in model_card(run_copy)


def test_a_card_says_when_the_probabilities_are_votes(run_copy):
    assert "votes" not in model_card(run_copy)
    path = run_copy.path / "classifier.json"
    content = json.loads(path.read_text())
    assert content.pop("confidence") == "pairwise coupling"  # as older versions wrote it
    path.write_text(json.dumps(content))
    assert "whose probabilities come from votes and hardly separate right from wrong." in model_card(run_copy)


def test_files_of_another_shape_are_refused_in_one_line(run_copy):
    metrics = json.loads(run_copy.metrics.read_text())
    for damage in ({"test": 1}, {"excluded": None}, {"validation": {}}, {"unreadable": ["a"]}):
        run_copy.metrics.write_text(json.dumps(metrics | damage))
        with pytest.raises(UserError, match=rf"^{run_copy.metrics}: .*expected .*; train the run again$"):
            model_card(run_copy)
    run_copy.metrics.write_text(json.dumps(metrics))
    content = json.loads(run_copy.identity.read_text())
    del content["identity"]["test_speakers"]
    run_copy.identity.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"run.json: expected train_speakers, .*no test_speakers; train the run again$"):
        model_card(run_copy)
