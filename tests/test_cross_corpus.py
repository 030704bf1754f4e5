"""Cross-corpus runs: their sides, what they refuse, and that they are never mixed with runs within a corpus."""

import sys

import pytest

from ser_tf.cli import door
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.opening import open_corpus
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.experiments.cross_corpus import CROSS_CORPUS, cross_corpus_task, join
from ser_tf.network.se_resnet import embedding_network
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import method_of, save_weights
from ser_tf.statistics.table import read_predictions

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture
def two(tones, tmp_path):
    """Two tables: tones of speakers 1 to 4; and of 5 and 6, whose angry ones are called bored."""
    columns, *rows = [line for line in tones.read_text().splitlines() if "broken" not in line]
    rows = [f"{tones.parent / row}" for row in rows]
    home, abroad = tmp_path / "home.csv", tmp_path / "abroad.csv"
    home.write_text("\n".join([columns, *(row for row in rows if row.split(",")[1] in "1234")]))
    there = [row.replace(",angry", ",bored") for row in rows if row.split(",")[1] in "56"]
    abroad.write_text("\n".join([columns, *there]))
    return home, abroad


@pytest.fixture
def task_of_two(two, small):
    def make(home=two[0], abroad=two[1], *, fold=1, weights=None):
        trained_on = open_corpus(home)
        scheme = load_scheme("complete", trained_on)
        return cross_corpus_task(trained_on, open_corpus(abroad), scheme, fold, "S3", small, weights)

    return make


@pytest.fixture
def cross_corpus_run(two, small, tmp_path, monkeypatch, capsys) -> RunFolder:
    """One epoch of the command."""
    monkeypatch.chdir(tmp_path)
    small.save(tmp_path / "small.yaml")
    options = ["--preset", "small.yaml", "--training.maximum-epochs", "1", "--run", "run"]
    corpora = ["--train-on", str(two[0]), "--test-on", str(two[1])]
    monkeypatch.setattr(sys, "argv", ["ser-tf", "cross-corpus", *corpora, *options])
    door.main()
    out = capsys.readouterr().out
    assert "table: left out for lack of the emotion in the other corpus: 16 angry\n" in out
    assert "S3 from random weights, table-to-table cross-corpus, validation of complete fold 1, 16 test" in out
    return RunFolder(tmp_path / "run")


def test_all_but_the_validation_speakers_are_trained_on_and_the_other_corpus_is_tested(two, small):
    trained_on = open_corpus(two[0])
    corpus, scheme, protocol = join(trained_on, open_corpus(two[1]), load_scheme("complete", trained_on))
    assert (corpus.name, corpus.emotions) == ("table-to-table", ("happy", "sad"))
    # Fold 1 tests speaker 1, who trains here, and validates on speaker 2.
    fold = scheme.fold(1)
    assert fold.train == ("table:1", "table:3", "table:4")
    assert (fold.validation, fold.test) == (("table:2",), ("table:5", "table:6"))
    # Four tones of each emotion and speaker.
    assert protocol == {
        "protocol": CROSS_CORPUS,
        "trained_on": "table",
        "tested_on": "table",
        "left_out": {"trained_on": {"angry": 16}, "tested_on": {"bored": 8}},
    }
    assert len(corpus.utterances) == (4 + 2) * 2 * 4


def test_weights_trained_on_a_test_speaker_are_refused(task_of_two, small, tmp_path):
    weights = tmp_path / "embedding.weights.h5"
    save_weights(embedding_network(small.network), weights, {"speakers": ["table:6"], "method": method_of(small)})
    with pytest.raises(UserError, match=r"trained on 1 of the fold's validation and test speakers \(table:6\)"):
        task_of_two(weights=weights)


def test_a_recording_or_a_speaker_of_both_corpora_is_refused(task_of_two, two, tmp_path):
    with pytest.raises(UserError, match=r"home\.csv: expected a corpus without the speakers of .* 4 of them, such as"):
        task_of_two(abroad=two[0])
    renamed = tmp_path / "renamed.csv"
    columns, *rows = two[0].read_text().splitlines()
    renamed.write_text("\n".join([columns, *(row.replace(",1,", ",7,").replace(",2,", ",8,") for row in rows[:24])]))
    with pytest.raises(
        UserError, match=r"expected each recording on one side\. Received: .* of table:7 \(test\), the same recording"
    ):
        task_of_two(abroad=renamed)


def test_corpora_that_share_one_emotion_are_refused(task_of_two, two):
    two[1].write_text(two[1].read_text().replace(",sad", ",calm"))
    with pytest.raises(UserError, match=r"at least two emotions of .*: happy, sad, angry\. Received: calm, happy, "):
        task_of_two()


def test_a_run_is_not_read_together_with_one_within_a_corpus(cross_corpus_run, finetuned):
    metrics = read_json(cross_corpus_run.metrics, "")
    assert metrics["protocol"] == CROSS_CORPUS
    assert (metrics["trained_on"], metrics["tested_on"]) == ("table", "table")
    assert metrics["left_out"] == {"trained_on": {"angry": 16}, "tested_on": {"bored": 8}}
    table = read_predictions([cross_corpus_run.path])
    assert set(table.rows["speaker"]) == {"table:5", "table:6"}
    assert len(table.rows) == metrics["test"]["utterances"] == 2 * 2 * 4
    with pytest.raises(UserError, match=r"expected the corpus of .*: table-to-table\. Received: table; evaluate these"):
        read_predictions([cross_corpus_run.path, finetuned("S3").path])
