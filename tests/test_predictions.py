import csv
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ser_tf.config import Config, LossConfig, TrainingConfig
from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.errors import UserError
from ser_tf.runs.files import write_json
from ser_tf.runs.folder import RunFolder
from ser_tf.statistics.scores import strategy_scores
from ser_tf.statistics.table import read_predictions
from ser_tf.training.results import _write_predictions

ROWS = (
    "side,file,speaker,truth,prediction,neutral,happy\n"
    "validation,Actor_03/03-01-03-01-01-01-03.wav,ravdess:03,happy,happy,0.100000,0.900000\n"
    "test,Actor_01/03-01-01-01-01-01-01.wav,ravdess:01,neutral,neutral,0.750000,0.250000\n"
    "test,Actor_02/03-01-03-01-01-01-02.wav,ravdess:02,happy,neutral,0.500000,0.500000\n"
)
IDENTITY = {
    "strategy": "S5",
    "fold": 1,
    "corpus": "ravdess",
    "scheme": "complete",
    "scheme_hash": "0123456789abcdef",
    "data_hash": "fedcba9876543210",
    "weights": None,
}


def test_a_recording_whose_name_is_no_utf8_is_written_with_its_bytes_escaped(tmp_path):
    path = tmp_path / os.fsdecode(b"\xe9t\xe9") / "03-01-03-01-01-01-01.wav"
    item = SimpleNamespace(utterance=Utterance(path.stem, path, "ravdess:01", "happy"))
    corpus = Corpus("ravdess", tmp_path, (), ("happy", "sad"), ("positive", "negative"), ())
    run = RunFolder(tmp_path)
    _write_predictions(run, corpus, {"test": SimpleNamespace(speech=[item])}, {"test": np.array([[0.75, 0.25]])})
    (row,) = csv.DictReader(run.predictions.read_text(encoding="utf-8").splitlines())
    assert row["file"] == r"\xe9t\xe9/03-01-03-01-01-01-01.wav"


@pytest.fixture
def run_of(tmp_path) -> Callable[..., Path]:
    """Writes the files of a finished run that `read_predictions` needs."""

    def write(name: str = "run", *, rows: str = ROWS, config: Config | None = None, **identity) -> Path:
        run = RunFolder(tmp_path / name)
        run.path.mkdir()
        write_json(run.identity, {"identity": IDENTITY | identity})
        (config or Config()).save(run.config)
        run.predictions.write_text(rows)
        write_json(run.metrics, {})
        return run.path

    return write


def seeded(seed: int) -> Config:
    return Config(training=TrainingConfig(seed=seed))


def refuses(message: str):
    return pytest.raises(UserError, match=f"^{re.escape(message)}$")


def test_a_table_holds_the_test_side_of_every_run(run_of):
    folders = [run_of("a"), run_of("b", fold=2), run_of("c", config=seeded(7)), run_of("d", strategy="S1")]
    table = read_predictions(folders)
    assert (table.corpus, table.scheme) == ("ravdess", "complete")
    assert (table.scheme_hash, table.data_hash) == (IDENTITY["scheme_hash"], IDENTITY["data_hash"])
    assert table.emotions == ("neutral", "happy")
    assert table.strategies == ("S1", "S5")
    columns = ["strategy", "seed", "fold", "utterance", "file", "speaker", "truth", "prediction", "neutral", "happy"]
    assert table.rows.columns.tolist() == columns
    runs = table.rows[["strategy", "seed", "fold"]].drop_duplicates()
    assert runs.to_numpy().tolist() == [["S5", 0, 1], ["S5", 0, 2], ["S5", 7, 1], ["S1", 0, 1]]
    assert len(table.rows) == 4 * 2
    first = ["S5", 0, 1, "03-01-01-01-01-01-01", "Actor_01/03-01-01-01-01-01-01.wav", "ravdess:01"]
    assert table.rows.iloc[0].tolist() == [*first, "neutral", "neutral", 0.75, 0.25]
    assert table.rows["truth"].cat.codes.tolist() == [0, 1] * 4
    assert table.rows["prediction"].cat.codes.tolist() == [0, 0] * 4  # of two equals, the run's own prediction


@pytest.mark.parametrize(
    ("corpus", "file", "utterance"),
    [
        ("ravdess", "03-01-01-01-01-01-01.flac", "03-01-01-01-01-01-01"),
        ("crema_d", "AudioWAV/1040_ITH_SAD_X.wav", "1040_ITH_SAD_XX"),  # an older release's name
        ("table", "anna/take.1.wav", "anna/take.1"),
    ],
)
def test_an_utterance_has_its_name_in_the_corpus(run_of, corpus, file, utterance):
    rows = ROWS.replace("Actor_01/03-01-01-01-01-01-01.wav", file)
    table = read_predictions([run_of(rows=rows, corpus=corpus)])
    assert (table.rows["file"].iloc[0], table.rows["utterance"].iloc[0]) == (file, utterance)


def test_a_word_that_pandas_reads_as_missing_is_an_emotion(run_of):
    table = read_predictions([run_of(rows=ROWS.replace("neutral", "None"))])
    assert table.emotions == ("None", "happy")
    assert table.rows["truth"].tolist() == ["None", "happy"]


def test_a_real_run_is_read_and_scored_as_it_scored_itself(shallow, finetuned):
    run = finetuned("S1")
    metrics = json.loads(run.metrics.read_text())
    table = read_predictions([run.path])
    assert table.emotions == tuple(metrics["emotions"])
    pooled = strategy_scores(table, "S1").pooled
    test = metrics["test"]
    assert (pooled.wa.value, pooled.uar.value) == pytest.approx((test["wa"], test["uar"]))
    assert pooled.macro_f1.value == pytest.approx(test["macro_f1"])
    assert pooled.confusion == test["confusion"]


def test_confusions_are_counted_by_seed_and_fold(table_of):
    table = table_of({"S1": 0.3}, seeds=2)
    counts, (seeds, folds) = table.confusions("seed", "fold")
    assert (seeds, folds, counts.shape) == ([0, 1], [1, 2, 3], (2, 3, 3, 3))
    rows = table.rows
    for seed, fold in product(seeds, folds):
        here = rows[(rows["seed"] == seed) & (rows["fold"] == fold)]
        expected = pd.crosstab(here["truth"], here["prediction"], dropna=False)
        assert counts[seed, fold - 1].tolist() == expected.to_numpy().tolist()
    assert counts.sum() == len(rows)


def test_no_runs_are_refused():
    with refuses("runs: expected at least one run folder; give those that ser-tf evaluate wrote"):
        read_predictions([])


def test_an_unfinished_run_is_refused(run_of):
    folder = run_of()
    RunFolder(folder).metrics.unlink()
    with pytest.raises(UserError, match="this run is not finished"):
        read_predictions([folder])


def test_an_identity_with_missing_keys_is_refused(run_of):
    folder = run_of()
    write_json(folder / "run.json", {"identity": {"strategy": "S5", "fold": 1, "corpus": "ravdess", "weights": None}})
    with refuses(f"{folder / 'run.json'}: expected scheme, scheme_hash, data_hash; train this run again"):
        read_predictions([folder])


@pytest.mark.parametrize(
    ("what", "value"), [("corpus", "table"), ("scheme", "emobox"), ("scheme_hash", "ab"), ("data_hash", "cd")]
)
def test_runs_of_another_corpus_scheme_or_data_are_refused(run_of, what, value):
    first, other = run_of("first"), run_of("other", **{what: value}, fold=2)
    with refuses(
        f"{other}: expected the {what} of {first}: {IDENTITY[what]}. Received: {value}; evaluate these runs separately"
    ):
        read_predictions([first, other])


def test_runs_of_other_emotions_are_refused(run_of):
    first, other = run_of("first"), run_of("other", rows=ROWS.replace("happy", "sad"), fold=2)
    with refuses(
        f"{other}: expected the emotions of {first}: ('neutral', 'happy'). Received: ('neutral', 'sad'); "
        "evaluate these runs separately"
    ):
        read_predictions([first, other])


def test_the_same_run_twice_is_refused(run_of):
    first, other = run_of("first"), run_of("other")
    with refuses(f"{other}: S5, seed 0, fold 1 is also in {first}; give one of them"):
        read_predictions([first, other])


def test_a_table_says_what_each_strategy_started_from_and_yardsticks_do_not(run_of):
    weights = {"strategy": "S3", "speakers": ["ravdess:03"]}
    folders = [run_of("S5", weights=weights), run_of("S3", strategy="S3"), run_of("svm", strategy="mfcc_svm")]
    assert read_predictions(folders).starts == {"S5": "S3 from random weights", "S3": "random weights"}


@pytest.mark.parametrize(
    "changed", [{"config": Config(loss=LossConfig(alpha=0.2))}, {"weights": {"speakers": ["ravdess:03"]}}]
)
def test_a_strategy_with_two_configurations_or_starts_is_refused(run_of, changed):
    first, other = run_of("first"), run_of("other", fold=2, **changed)
    with refuses(
        f"{other}: expected S5 with the configuration and the start of {first}. Received: a different one; "
        "evaluate these runs separately"
    ):
        read_predictions([first, other])


@pytest.mark.parametrize(
    ("rows", "received"),
    [
        ("", "No columns to parse from file"),
        ("side,file\n", "the columns side, file"),
        (
            ROWS.replace(",happy\n", "\n", 1).replace(",0.", ",", 3),
            "the columns side, file, speaker, truth, prediction,",
        ),
        (ROWS.replace("test,", "train,"), "no row of the test side"),
        (ROWS.replace("0.750000", "much"), "could not convert string to float: 'much'"),
        (ROWS.replace("0.750000", "nan"), "probabilities that are not a distribution in row 3"),
        (ROWS.replace("0.750000", "0.750010"), "probabilities that are not a distribution in row 3"),
        (ROWS.replace("0.500000,0.500000", "1.500000,-0.500000"), "probabilities that are not a distribution in row 4"),
        (
            ROWS.replace("happy,neutral,0.5", "sad,neutral,0.5"),
            "a truth or prediction without a column of its own in row 4",
        ),
        (ROWS.replace("neutral,neutral", "neutral,happy"), "a prediction that is not the likeliest emotion in row 3"),
        (
            ROWS.replace("Actor_02/03-01-03-01-01-01-02", "Actor_01/03-01-01-01-01-01-01"),
            "an utterance for the second time in row 4",
        ),
        (ROWS.replace("Actor_02/03-01-03-01-01-01-02.wav", "/"), "a file without a name in row 4"),
    ],
)
def test_damaged_predictions_are_refused(run_of, rows, received):
    folder = run_of(rows=rows)
    start = (
        f"{folder / 'predictions.csv'}: expected the predictions of a run: side, file, speaker, truth, prediction, and "
        f"a column of probabilities for each emotion. Received: {received}"
    )
    end = "; restore the file or train the run again"
    with pytest.raises(UserError, match=f"^{re.escape(start)}.*{end}$"):
        read_predictions([folder])


def test_missing_predictions_are_refused(run_of):
    folder = run_of()
    (folder / "predictions.csv").unlink()
    with pytest.raises(UserError, match=r"predictions\.csv: expected the predictions of a run.*No such file"):
        read_predictions([folder])


def test_a_strategy_that_the_table_lacks_is_refused(table_of):
    with refuses("strategy: expected one of S1, S2. Received: S3"):
        table_of({"S1": 0, "S2": 1}).of("S1", "S3")


def test_a_seed_that_was_tested_on_other_utterances_is_refused(table_of):
    table = table_of({"S1": 0.3}, seeds=2)
    second = table.rows["seed"] == 1
    # The two speakers of fold 3 are missing in one seed.
    part = table.select(~(second & (table.rows["fold"] == 3)))
    missing = (second & (table.rows["fold"] == 3)).sum()
    example = table.rows.loc[table.rows["fold"] == 3, "utterance"].iloc[0]
    with refuses(
        "S1, seed 1: expected the same utterances as in the other runs. "
        f"Received: {missing} of {second.sum()} are missing, such as {example} of fold 3; "
        "finish its folds, or compare only runs of the same folds"
    ):
        part.of("S1")


def test_a_strategy_that_lacks_one_utterance_is_not_compared(table_of):
    table = table_of({"S1": 0.3, "S2": 0.3})
    one = (table.rows["strategy"] == "S1") & (table.rows["utterance"] == "take-3")
    part = table.select(~one)
    with pytest.raises(UserError, match=r"^S1, seed 0: .* 1 of \d+ are missing, such as take-3 of fold 1;"):
        part.of("S1", "S2")
    assert len(part.of("S1").rows) == len(part.of("S2").rows) - 1  # each strategy is consistent by itself


@pytest.mark.parametrize(("column", "value"), [("fold", 9), ("speaker", "ravdess:24"), ("truth", "sad")])
def test_an_utterance_with_another_fold_speaker_or_truth_is_a_different_one(table_of, column, value):
    table = table_of({"S1": 0.3, "S2": 0.3})
    rows = table.rows.reset_index(drop=True)
    rows.loc[0, column] = value  # a neutral one of speaker 1 in fold 1
    with pytest.raises(UserError, match="expected the same utterances"):
        replace(table, rows=rows).of("S1", "S2")
