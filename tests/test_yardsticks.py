"""Yardsticks: their predictions and run folders, and random splits, which must be marked."""

import csv
import json
import shutil
import sys
from collections import Counter
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pytest
import soundfile
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ser_tf.audio.mfcc import mfcc_statistics
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.classifier import SLOPE
from ser_tf.config import Config
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.known import crema_d
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError
from ser_tf.experiments.splits import RANDOM_SPLIT, SPEAKER_INDEPENDENT, random_splits
from ser_tf.experiments.yardsticks import choose, compare
from ser_tf.pairwise_svm import coupled
from ser_tf.pipeline import prepare_speech
from ser_tf.runs.folder import RunFolder

EMOTIONS = ["happy", "sad", "angry"]  # the order of ser_tf.corpora.EMOTIONS
METHODS = ("majority", "mfcc_svm")
MARK = "random-split-speaker-dependent-not-comparable"
needs_opensmile = pytest.mark.skipif(find_spec("opensmile") is None, reason="openSMILE, an extra, is not installed")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def lopsided(tones):
    """The tones without three of speaker 3, so that fold 1 trains on 16 happy, 16 sad and 13 angry recordings."""
    columns, *rows = tones.read_text().splitlines()
    table = tones.with_name("lopsided.csv")
    table.write_text(
        "\n".join([columns, *(row for row in rows if row[:9] not in ("3-angry-1", "3-angry-2", "3-angry-3"))])
    )
    return table


@pytest.fixture(scope="module")
def opened(lopsided):
    corpus = open_corpus(lopsided)
    return corpus, load_scheme("complete", corpus), prepare_speech(corpus.utterances, Config())


def compared(opened, folder, *, methods=METHODS, protocol="honest"):
    """The table and the reported lines."""
    lines = []
    found = choose(methods, opened[0])
    return compare(found, *opened, protocol=protocol, folder=folder, report=lines.append), lines


@pytest.fixture(scope="module")
def both(opened, tmp_path_factory):
    """Folder and table of two methods on both protocols."""
    folder = tmp_path_factory.mktemp("runs")
    return folder, compared(opened, folder, protocol="random")[0]


def rows_of(path, side=None):
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if side in (None, row["side"])]


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def cells_of(table, method, split):
    """The numbers in the table's row of a method."""
    row = next(line for line in table.splitlines() if line.split()[0] == method and line.endswith(split))
    names = [f"{metric} {kind}" for metric in ("uar", "wa") for kind in ("mean", "min", "max", "std", "pooled")]
    return dict(zip(["folds", *names], map(float, row.removesuffix(split).split()[1:]), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_has_the_identity_and_the_columns_of_a_networks(both, opened, task_of, method):
    folder = both[0] / f"{method}-fold1"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "run.json",
        "predictions.csv",
        "confusion.csv",
        "metrics.json",
    }
    identity, metrics = RunFolder(folder).read_identity(), metrics_of(folder)
    networks = task_of("S1").identity() | {"data_hash": opened[2].data_hash, "strategy": method}
    assert {key: identity[key] for key in networks} == networks  # of all tones, but on the same speakers
    assert {key: metrics[key] for key in ("strategy", "corpus", "scheme", "fold", "weights")} == {
        key: networks[key] for key in ("strategy", "corpus", "scheme", "fold", "weights")
    }
    assert metrics["protocol"] == identity["protocol"] == SPEAKER_INDEPENDENT
    assert metrics["folds"] == 6  # one for each of the six speakers
    assert list(metrics["unreadable"]) == ["broken"]
    assert list(rows_of(folder / "predictions.csv")[0]) == ["side", "file", "speaker", "truth", "prediction", *EMOTIONS]


@pytest.mark.parametrize("method", METHODS)
def test_the_metrics_follow_from_the_predictions(both, method):
    folder = both[0] / f"{method}-fold3"  # it tests speaker 3, who lacks three angry ones
    for side, speaker, count in (("validation", "table:4", 12), ("test", "table:3", 9)):
        rows, scores = rows_of(folder / "predictions.csv", side), metrics_of(folder)[side]
        truth, prediction = ([row[key] for row in rows] for key in ("truth", "prediction"))
        assert {row["speaker"] for row in rows} == {speaker}
        assert scores["utterances"] == len(rows) == count
        assert scores["wa"] == pytest.approx(accuracy_score(truth, prediction))
        assert scores["uar"] == pytest.approx(balanced_accuracy_score(truth, prediction))
        assert scores["confusion"] == confusion_matrix(truth, prediction, labels=EMOTIONS).tolist()


def test_the_majority_has_the_shares_of_the_training_side(both):
    # Fold 1 trains on 16 happy, 16 sad and 13 angry recordings; of the two equals the first in label order wins.
    rows = rows_of(both[0] / "majority-fold1" / "predictions.csv")
    assert {row["prediction"] for row in rows} == {"happy"}
    shares = {tuple(float(row[emotion]) for emotion in EMOTIONS) for row in rows}
    assert shares == {(round(16 / 45, 6), round(16 / 45, 6), round(13 / 45, 6))}
    assert metrics_of(both[0] / "majority-fold1")["test"]["recall"] == {"happy": 1, "sad": 0, "angry": 0}


def test_the_svm_is_scikit_learns_on_features_scaled_by_the_training_side(both, lopsided):
    folder = both[0] / "mfcc_svm-fold1"
    corpus, identity = open_corpus(lopsided), RunFolder(folder).read_identity()

    def seen(side):
        """Files, features and emotions of a side, the features made from the recordings."""
        chosen = [u for u in corpus.utterances if u.speaker in identity[f"{side}_speakers"] and u.name != "broken"]
        speech = (remove_silence(read_waveform(utterance.path), Config().vad).waveform for utterance in chosen)
        vectors = np.array([mfcc_statistics(samples) for samples in speech], "float64")
        return (
            [utterance.path.name for utterance in chosen],
            vectors,
            [corpus.emotions.index(u.emotion) for u in chosen],
        )

    _, training, labels = seen("train")
    files, test, _ = seen("test")
    scaler, chosen = StandardScaler().fit(training), metrics_of(folder)["svm"]
    svm = SVC(C=chosen["c"], gamma=chosen["gamma"], decision_function_shape="ovo")
    margins = svm.fit(scaler.transform(training), labels).decision_function(scaler.transform(test))
    expected = coupled(margins, SLOPE).argmax(axis=1)
    found = {row["file"]: row["prediction"] for row in rows_of(folder / "predictions.csv", "test")}
    assert found == {file: EMOTIONS[index] for file, index in zip(files, expected, strict=True)}
    # Of 12 recordings in three classes, guesses get 4 right, and 9 with a probability of 0.4 %.
    assert metrics_of(folder)["test"]["wa"] >= 0.75


def test_the_table_has_what_the_runs_have(both, opened):
    folder, table = both
    for method in METHODS:
        scores = [metrics_of(folder / f"{method}-fold{fold}")["test"] for fold in range(1, 7)]
        rows = [row for n in range(1, 7) for row in rows_of(folder / f"{method}-fold{n}" / "predictions.csv", "test")]
        assert len(rows) == len(opened[2].items)
        truth, prediction = ([row[key] for row in rows] for key in ("truth", "prediction"))
        pooled = {"wa": accuracy_score, "uar": balanced_accuracy_score}
        cells = cells_of(table, method, f"{SPEAKER_INDEPENDENT}, complete")
        assert cells.pop("folds") == 6
        for metric, of_all in pooled.items():
            shares = np.array([100 * score[metric] for score in scores])
            expected = [shares.mean(), shares.min(), shares.max(), shares.std(ddof=1), 100 * of_all(truth, prediction)]
            found = [cells[f"{metric} {kind}"] for kind in ("mean", "min", "max", "std", "pooled")]
            np.testing.assert_allclose(found, expected, atol=0.051)


def test_a_random_split_is_marked_wherever_it_is_named(both):
    folder, table = both
    marked = [path for path in folder.iterdir() if path.name.endswith(f"-{MARK}")]
    assert len(marked) == len(METHODS) * 6 == len(list(folder.iterdir())) / 2
    for path in marked:
        for content in (RunFolder(path).read_identity(), metrics_of(path)):
            assert content["protocol"] == content["scheme"] == RANDOM_SPLIT
            assert content["strategy"].endswith(f", {RANDOM_SPLIT}")
    honest = [path for path in folder.iterdir() if path not in marked]
    for name in ("run.json", "metrics.json"):
        assert not any("random" in (path / name).read_text() for path in honest)
    lines = [line for line in table.splitlines() if line.startswith(METHODS) or line.split()[0] in METHODS]
    assert sum(RANDOM_SPLIT in line for line in lines) == 2 * len(METHODS)  # a row and a premium each
    assert sum(f"{SPEAKER_INDEPENDENT}, complete" in line for line in lines) == len(METHODS)


def test_the_leak_premium_is_the_difference_of_the_means(both):
    folder, table = both
    line = next(line for line in table.splitlines() if line.startswith("mfcc_svm: leak premium "))
    means = [
        np.mean([metrics_of(folder / f"mfcc_svm-fold{fold}{mark}")["test"]["uar"] for fold in range(1, 7)])
        for mark in (f"-{MARK}", "")
    ]
    assert float(line.split()[3]) == pytest.approx(100 * (means[0] - means[1]), abs=0.051)


def test_a_random_split_tests_each_utterance_once_and_trains_on_all_speakers(opened):
    splits, items = random_splits(*opened), opened[2].items
    names = [[item.utterance.name for item in split.sides["test"].speech] for split in splits]
    assert sorted(name for test in names for name in test) == sorted(item.utterance.name for item in items)
    assert [[item.utterance.name for item in split.sides["validation"].speech] for split in splits] == names[
        1:
    ] + names[:1]
    for split in splits:
        members = [item.utterance.name for side in split.sides.values() for item in side.speech]
        assert sorted(members) == sorted(item.utterance.name for item in items)
        counts = Counter(item.utterance.emotion for item in split.sides["test"].speech)
        assert (counts["happy"], counts["sad"]) == (4, 4)  # 24 dealt to six folds; 21 angry ones to 3 or 4 each
        assert counts["angry"] in (3, 4)
    trained_on = {item.utterance.speaker for item in splits[0].sides["train"].speech}
    assert {item.utterance.speaker for item in splits[0].sides["test"].speech} <= trained_on
    again = random_splits(*opened)
    assert [split.scheme_hash for split in again] == [splits[0].scheme_hash] * 6
    assert [[item.utterance.name for item in split.sides["test"].speech] for split in again] == names


def test_random_folds_need_three_and_no_more_than_the_rarest_emotion_has(opened, tmp_path):
    folds = tmp_path / "folds.yaml"
    folds.write_text("table: {two: {folds: {1: {test: 1}, 2: {test: 2}}}}")
    corpus, _, prepared = opened
    with pytest.raises(UserError, match=r"^protocol random: expected a scheme of 3 to 21 folds .* 2 in scheme 'two'"):
        random_splits(corpus, load_scheme("two", corpus, folds), prepared)


def test_finished_runs_are_kept_and_unfinished_ones_done_again(both, opened, tmp_path):
    method, fold = "mfcc_svm", tmp_path / "mfcc_svm-fold2"
    table, lines = compared(opened, tmp_path, methods=(method,))
    assert lines == [f"{method}: describing 69 utterances"]  # 72 tones, of which three are left out
    expected = {path.name: path.read_text() for path in fold.iterdir()}
    (fold / "metrics.json").unlink()  # as a kill before the end leaves it
    again, lines = compared(opened, tmp_path, methods=(method,))
    assert again == table
    assert lines.count(f"{method}: describing 69 utterances") == 1
    assert sorted(line for line in lines if "already" in line) == [
        f"{tmp_path}/{method}-fold{number}: already finished" for number in (1, 3, 4, 5, 6)
    ]
    assert {path.name: path.read_text() for path in fold.iterdir()} == expected
    _, lines = compared(opened, tmp_path, methods=(method,))
    assert len(lines) == 6  # no features without an unfinished run


def test_a_folder_of_another_run_is_refused(both, tones):
    corpus = open_corpus(tones)
    whole = corpus, load_scheme("complete", corpus), prepare_speech(corpus.utterances, Config())
    with pytest.raises(UserError, match="majority-fold1: holds a run with another data_hash; choose another --run"):
        compared(whole, both[0])


def test_a_folder_of_an_svm_that_counted_votes_is_refused(both, opened, tmp_path):
    run = RunFolder(shutil.copytree(both[0] / "mfcc_svm-fold1", tmp_path / "mfcc_svm-fold1"))
    content = json.loads(run.identity.read_text())
    assert content["identity"].pop("confidence") == "pairwise coupling"  # as older versions wrote it
    run.identity.write_text(json.dumps(content))
    with pytest.raises(UserError, match="mfcc_svm-fold1: holds a run with another confidence; choose another --run"):
        compared(opened, tmp_path, methods=("mfcc_svm",))


@pytest.mark.parametrize(("side", "speakers"), [("training", "3456"), ("validation", "2")])
def test_a_side_without_an_emotion_is_refused_and_leaves_no_folder(tones, tmp_path, side, speakers):
    table = tones.with_name("lacking.csv")
    lacking = tuple(f"{speaker}-sad" for speaker in speakers)
    table.write_text(
        "\n".join(row for row in tones.read_text().splitlines() if not row.startswith((*lacking, "broken")))
    )
    corpus = open_corpus(table)
    folds = tmp_path / "folds.yaml"
    folds.write_text("table: {own: {folds: {1: {test: 1, validation: 2}}}}")
    opened = corpus, load_scheme("own", corpus, folds), prepare_speech(corpus.utterances, Config())
    with pytest.raises(UserError, match=rf"fold 1: expected {side} speakers .* Received: table:.* without sad; choose"):
        compared(opened, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_by_default_unavailable_yardsticks_are_warned_about(opened, monkeypatch):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.warns(UserWarning) as warned:
        found = choose((), opened[0])
    assert [yardstick.name for yardstick in found] == list(METHODS)
    assert [str(warning.message) for warning in warned] == [
        "left out: eGeMAPS needs openSMILE; install the extra: pip install -e '.[opensmile]'",
        "left out: human: expected crema_d, whose listeners' votes are published. Received: table",
    ]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("egemaps_svm", r"needs openSMILE; install the extra: pip install -e '.\[opensmile\]'"),
        ("human", "human: expected crema_d, .* Received: table"),
        ("svm", "methods: expected some of majority, mfcc_svm, egemaps_svm, human. Received: svm"),
    ],
)
def test_an_unavailable_yardstick_asked_for_by_name_is_refused(opened, monkeypatch, method, message):
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(UserError, match=message):
        choose(("majority", method), opened[0])


@needs_opensmile
def test_egemaps_recognise_the_tones(opened, tmp_path):
    compared(opened, tmp_path, methods=("egemaps_svm",))
    run = RunFolder(tmp_path / "egemaps_svm-fold1")
    assert run.read_identity()["input"] == f"waveform: eGeMAPSv02 of opensmile {version('opensmile')}"
    assert metrics_of(run.path)["test"]["wa"] >= 0.75  # as above


# The listeners of CREMA-D

CLIPS = [
    f"{actor}_DFA_{code}_XX" for actor in (1001, 1002, 1003) for code in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
]
VOTES = dict.fromkeys(CLIPS, "N") | {
    "1003_DFA_ANG_XX": "A",
    "1003_DFA_DIS_XX": "N",
    "1003_DFA_FEA_XX": "F:N",
    "1003_DFA_HAP_XX": "H:N:S",
    "1003_DFA_NEU_XX": "N",
    "1003_DFA_SAD_XX": "A:D",
}


def write_votes(path, votes=VOTES):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f'"{number}","{name}","{vote}","50"' for number, (name, vote) in enumerate(votes.items(), 1)]
    path.write_text("\n".join(['"","FileName","VoiceVote","VoiceLevel"', *lines]) + "\n")


@pytest.fixture
def heard(tmp_path):
    """A corpus of three CREMA-D actors on one fold, without the votes; it may be opened by any of its folders."""
    folder = tmp_path / "CREMA-D" / "AudioWAV"
    folder.mkdir(parents=True)
    for place, name in enumerate(CLIPS):
        soundfile.write(folder / f"{name}.wav", 0.1 * np.sin(np.arange(8000) * (1 + place) / 50), 16_000)
    (tmp_path / "folds.yaml").write_text("crema_d: {mine: {folds: {1: {train: 1001, validation: 1002, test: 1003}}}}")
    corpus = open_corpus(folder)
    scheme = load_scheme("mine", corpus, tmp_path / "folds.yaml")
    return corpus, scheme, prepare_speech(corpus.utterances, Config())


def test_a_tie_of_listeners_counts_as_wrong_and_separately_in_part(heard, tmp_path):
    write_votes(tmp_path / "CREMA-D" / "processedResults" / "summaryTable.csv")
    table, _ = compared(heard, tmp_path / "runs", methods=("human",))
    metrics = metrics_of(tmp_path / "runs" / "human-fold1")
    # Right: angry and neutral. Shared: half of fearful, a third of happy. One utterance of each emotion: WA is UAR.
    assert (metrics["test"]["wa"], metrics["test"]["uar"]) == (pytest.approx(2 / 6), pytest.approx(2 / 6))
    shared = (2 + 1 / 2 + 1 / 3) / 6
    assert (metrics["ties_shared"]["wa"], metrics["ties_shared"]["uar"]) == (
        pytest.approx(shared),
        pytest.approx(shared),
    )
    rows = {row["truth"]: row for row in rows_of(tmp_path / "runs" / "human-fold1" / "predictions.csv", "test")}
    assert {truth: row["prediction"] for truth, row in rows.items()} == {
        "angry": "angry",
        "disgust": "neutral",
        "fearful": "neutral",  # the other one of the tie
        "happy": "neutral",  # the first of the other two
        "neutral": "neutral",
        "sad": "angry",  # a tie without the truth
    }
    for truth, row in rows.items():
        shares = {emotion: float(row[emotion]) for emotion in crema_d.EMOTIONS}
        assert sum(shares.values()) == pytest.approx(1, abs=2e-6)
        assert row["prediction"] == max(shares, key=shares.get), truth
    assert float(rows["happy"]["happy"]) == pytest.approx(1 / 3, abs=1e-5)
    # One fold has no deviation; without a test of every speaker nothing is pooled.
    line = f"human, ties shared      1     {100 * shared:.1f}"
    assert line.split() == next(row for row in table.splitlines() if "ties shared" in row).split()[:5]
    assert "-" in table.splitlines()[-1].split()
    assert "pooled" not in table.splitlines()[0]


@pytest.mark.parametrize("place", ["AudioWAV", ".", "processedResults", "AudioWAV/processedResults"])
def test_the_votes_are_found_where_the_publisher_keeps_them(tmp_path, place):
    path = tmp_path / place / "summaryTable.csv"
    write_votes(path)
    assert crema_d.find_votes(tmp_path / "AudioWAV").samefile(path)


def test_without_votes_there_is_one_line(heard):
    with pytest.warns(UserWarning, match="AudioWAV: expected the listeners' votes, summaryTable.csv, there, beside it"):
        choose((), heard[0])
    with pytest.raises(UserError, match=r"expected the listeners' votes, .* fetch it from https://github\.com/"):
        choose(("human",), heard[0])


def test_the_votes_on_every_clip_are_needed(heard, tmp_path):
    write_votes(
        tmp_path / "CREMA-D" / "summaryTable.csv", {name: vote for name, vote in VOTES.items() if name != CLIPS[3]}
    )
    with pytest.raises(UserError, match=rf"summaryTable\.csv: expected the votes on {CLIPS[3]}; fetch the complete"):
        compared(heard, tmp_path / "runs", methods=("human",))


def test_other_votes_make_another_run(heard, tmp_path):
    table = tmp_path / "CREMA-D" / "summaryTable.csv"
    write_votes(table)
    compared(heard, tmp_path / "runs", methods=("human",))
    write_votes(table, VOTES | {CLIPS[0]: "A"})
    with pytest.raises(UserError, match="human-fold1: holds a run with another input; choose another --run"):
        compared(heard, tmp_path / "runs", methods=("human",))


def test_votes_are_read_by_letter_and_todays_name(tmp_path):
    write_votes(tmp_path / "votes.csv", {"1040_ITH_SAD_X": "S", "1001_DFA_ANG_XX": "A:D:F:H:N:S"})
    votes = crema_d.read_votes(tmp_path / "votes.csv")
    assert votes == {"1040_ITH_SAD_XX": ("sad",), "1001_DFA_ANG_XX": crema_d.EMOTIONS}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected the columns FileName, VoiceVote in row 1\. Received: an empty file"),
        (b"FileName,Vote\n", r"expected the columns FileName, VoiceVote in row 1\. Received: FileName, Vote"),
        (b"FileName,VoiceVote\na,A\nb,X:N\n", r"row 3: expected letters among A, D, F, H, N, S, .* VoiceVote='X:N'"),
        (b"FileName,VoiceVote\na\n", r"row 2: expected letters among .* VoiceVote=None"),
        (b"FileName,VoiceVote\n\xff,A\n", r"expected a readable CSV table in UTF-8\. Received: "),
    ],
)
def test_a_bad_table_of_votes_is_named(tmp_path, content, message):
    path = tmp_path / "summaryTable.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"summaryTable\.csv.*" + message):
        crema_d.read_votes(path)


def test_the_published_votes_have_the_published_accuracy(shared_data):
    votes = crema_d.read_votes(crema_d.find_votes(shared_data / "crema_d"))
    truth = {name: crema_d.parse(name)[1] for name in votes}
    assert len(votes) == 7442
    assert np.mean([winners == (truth[name],) for name, winners in votes.items()]) == pytest.approx(0.416, abs=5e-4)
    shares = [(truth[name] in winners) / len(winners) for name, winners in votes.items()]
    assert np.mean(shares) == pytest.approx(0.446, abs=5e-4)
