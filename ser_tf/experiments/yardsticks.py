"""Yardsticks: simple methods on the folds of the networks, in run folders of the same form.

A yardstick describes each utterance by one vector: an empty one (majority), MFCC statistics of the speech, eGeMAPSv02
of the waveform (Eyben et al. 2016), or the listeners' votes (CREMA-D).
"""

import hashlib
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.preprocessing import StandardScaler

from ser_tf.audio import egemaps
from ser_tf.audio.mfcc import mfcc_statistics
from ser_tf.classifier import COUPLING, fit_svm
from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import Scheme
from ser_tf.corpora.known import crema_d
from ser_tf.errors import UserError
from ser_tf.experiments.splits import RANDOM_SPLIT, SPEAKER_INDEPENDENT, Split, honest_splits, random_splits
from ser_tf.pipeline import PreparedSpeech, SpeechFile, prepare_speech
from ser_tf.ray_cluster import ClusterTask, run_tasks
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.statistics.scores import score_confusions
from ser_tf.training.results import write_results
from ser_tf.training.sides import without_contradictions

TIE_HANDICAP = 1e-5
"""Reduction of the true emotion's share in a tied vote; large enough for the six decimals of `predictions.csv`."""
PREDICTED = ("validation", "test")

PerSide = dict[str, np.ndarray]
Results = dict[tuple[str, str], list[dict[str, Any]]]
"""Method and protocol -> scores on the test side of each fold."""


@dataclass(frozen=True)
class Yardstick:
    """A method without a network.

    Attributes:
        name: takes the place of the strategy in a run.
        input: what its features are made of; part of a run's identity.
        describe: N utterances -> features, float [N, F].
        predict: features float [N, F] and labels int [N] of each side, and the C emotions -> probabilities float [N, C]
            of the validation and the test side, and the method's entries in `metrics.json`.
    """

    name: str
    input: str
    describe: Callable[[Sequence[SpeechFile]], np.ndarray]
    predict: Callable[[PerSide, PerSide, tuple[str, ...]], tuple[PerSide, dict[str, Any]]]


def choose(names: Sequence[str], corpus: Corpus) -> list[Yardstick]:
    """The yardsticks of these names; without names all that are available, with a warning for each that is not.

    Raises:
        UserError: a named yardstick does not exist or is not available.
    """
    for name in names:
        if name not in YARDSTICKS:
            raise UserError(f"methods: expected some of {', '.join(YARDSTICKS)}. Received: {name}")
    if names:
        return [YARDSTICKS[name](corpus) for name in dict.fromkeys(names)]
    found = []
    for make in YARDSTICKS.values():
        try:
            found.append(make(corpus))
        except UserError as error:
            warnings.warn(f"left out: {error}", stacklevel=1)
    return found


def compare(
    yardsticks: Sequence[Yardstick],
    corpus: Corpus,
    scheme: Scheme,
    prepared: PreparedSpeech,
    *,
    protocol: Literal["honest", "random"],
    folder: Path,
    report: Callable[[str], None],
) -> str:
    """Evaluate every yardstick on every fold, with a run folder each; finished runs are only read.

    Args:
        yardsticks: the methods.
        corpus: of the utterances.
        scheme: the folds.
        prepared: the speech of every utterance.
        protocol: "random" also evaluates a random split.
        folder: contains the run folders.
        report: receives a line per step.

    Returns:
        A table, followed by the leak premiums of the random split.

    Raises:
        UserError: as `honest_splits` and `random_splits`, or a folder holds another run.
    """
    corpus, prepared = without_contradictions(corpus, prepared)
    splits = _splits(corpus, prepared, scheme, protocol)
    results: Results = {}
    for yardstick in yardsticks:
        described = cache(partial(_described, yardstick, prepared, report))  # at most once, if a run is unfinished
        for split in splits:
            result = _evaluate(yardstick, split, corpus, prepared, described, len(scheme.folds), folder, report)
            results.setdefault((yardstick.name, split.protocol), []).append(result["test"])
            if "ties_shared" in result:
                tied = f"{yardstick.name}, ties shared"
                results.setdefault((tied, split.protocol), []).append(result["ties_shared"])
    each_tested_once = not scheme.tested_twice and not scheme.never_tested
    return "\n".join([_table(results, scheme.name, pooled=each_tested_once), *_premiums(results)])


@dataclass(frozen=True)
class OneSplit:
    """What a node of a cluster needs to evaluate one yardstick on one split; attributes as of `compare`."""

    yardstick: str
    place: int
    corpus: Corpus
    scheme: Scheme
    protocol: Literal["honest", "random"]
    folder: Path


def spread(
    yardsticks: Sequence[Yardstick],
    corpus: Corpus,
    scheme: Scheme,
    prepared: PreparedSpeech,
    *,
    protocol: Literal["honest", "random"],
    folder: Path,
    report: Callable[[str], None],
) -> None:
    """Evaluate on a Ray cluster, each yardstick and fold a task; `compare`, whose arguments these are, then reads them.

    Raises:
        UserError: as `compare` and `ser_tf.ray_cluster.run_tasks`.
    """
    splits = _splits(*without_contradictions(corpus, prepared), scheme, protocol)
    unfinished = (
        ClusterTask(
            run.path,
            OneSplit(yardstick.name, place, corpus, scheme, protocol, folder),
            run.metrics.is_file,
        )
        for yardstick in yardsticks
        for place, split in enumerate(splits)
        if not (run := RunFolder(folder / split.folder(yardstick.name))).finished
    )
    for name in run_tasks(evaluate_split, unfinished, report):
        report(f"{name}: finished")


def evaluate_split(one: OneSplit) -> Path:
    """Evaluate one yardstick on one split, on a node of a cluster; its run folder."""
    (yardstick,) = choose([one.yardstick], one.corpus)
    corpus, prepared = without_contradictions(one.corpus, prepare_speech(one.corpus.utterances, Config()))
    split = _splits(corpus, prepared, one.scheme, one.protocol)[one.place]
    described = partial(_described, yardstick, prepared, print)
    _evaluate(yardstick, split, corpus, prepared, described, len(one.scheme.folds), one.folder, print)
    return one.folder / split.folder(yardstick.name)


def _splits(corpus: Corpus, prepared: PreparedSpeech, scheme: Scheme, protocol: str) -> list[Split]:
    splits = honest_splits(corpus, scheme, prepared)
    return splits + random_splits(corpus, scheme, prepared) if protocol == "random" else splits


def _evaluate(
    yardstick: Yardstick,
    split: Split,
    corpus: Corpus,
    prepared: PreparedSpeech,
    described: Callable[[], dict[str, np.ndarray]],
    folds: int,
    folder: Path,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """The content of `metrics.json` of one yardstick on one split; evaluated only where it is not finished."""
    run = RunFolder(folder / split.folder(yardstick.name))
    identity = split.identity(yardstick.name, corpus, prepared) | {"input": yardstick.input}
    if yardstick.predict is _by_svm:
        identity["confidence"] = COUPLING  # older runs counted votes
    with run.alone():
        run.begin(identity, Config())  # only audio and vad matter; no preset changes them
        if run.finished:
            return run.result(report, WRITTEN)
        probabilities, about = _predict(yardstick, split, described(), corpus.emotions)
        shown = ("strategy", "protocol", "corpus", "scheme", "fold", "weights", "input")
        about = {key: identity[key] for key in shown} | {"folds": folds} | about
        return write_results(run, corpus, prepared, split.sides, probabilities, about)


def _majority(corpus: Corpus) -> Yardstick:
    return Yardstick("majority", "the training labels", lambda items: np.empty((len(items), 0)), _by_majority)


def _mfcc_svm(corpus: Corpus) -> Yardstick:
    def describe(items: Sequence[SpeechFile]) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.stack(list(pool.map(lambda item: mfcc_statistics(item.waveform), items)))

    return Yardstick("mfcc_svm", "speech: mean and deviation of 20 MFCCs and their deltas", describe, _by_svm)


def _egemaps_svm(corpus: Corpus) -> Yardstick:
    version = egemaps.require_opensmile()

    def describe(items: Sequence[SpeechFile]) -> np.ndarray:
        return np.stack(egemaps.egemaps([item.utterance.path for item in items]))

    return Yardstick("egemaps_svm", f"waveform: eGeMAPSv02 of opensmile {version}", describe, _by_svm)


def _human(corpus: Corpus) -> Yardstick:
    if corpus.name != crema_d.NAME:
        raise UserError(
            f"human: expected {crema_d.NAME}, whose listeners' votes are published. Received: {corpus.name}"
        )
    path = crema_d.find_votes(corpus.root)
    votes = crema_d.read_votes(path)

    def describe(items: Sequence[SpeechFile]) -> np.ndarray:
        """Float [N, C]: equal shares for all emotions with the most votes."""
        names = [item.utterance.name for item in items]
        unknown = [name for name in names if name not in votes]
        if unknown:
            raise UserError(f"{path}: expected the votes on {unknown[0]}; fetch the complete table")
        winners = np.array([[emotion in votes[name] for emotion in corpus.emotions] for name in names], "float64")
        return winners / winners.sum(axis=1, keepdims=True)

    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return Yardstick("human", f"listeners' votes on the voice: {path.name} {content_hash}", describe, _by_vote)


YARDSTICKS: dict[str, Callable[[Corpus], Yardstick]] = {
    "majority": _majority,
    "mfcc_svm": _mfcc_svm,
    "egemaps_svm": _egemaps_svm,
    "human": _human,
}


def _described(yardstick: Yardstick, prepared: PreparedSpeech, report: Callable[[str], None]) -> dict[str, np.ndarray]:
    """Name of each utterance -> its features."""
    report(f"{yardstick.name}: describing {len(prepared.items)} utterances")
    names = (item.utterance.name for item in prepared.items)
    return dict(zip(names, yardstick.describe(prepared.items).astype("float64"), strict=True))


def _predict(
    yardstick: Yardstick, split: Split, described: dict[str, np.ndarray], emotions: tuple[str, ...]
) -> tuple[PerSide, dict[str, Any]]:
    features = {
        name: np.stack([described[item.utterance.name] for item in side.speech]) for name, side in split.sides.items()
    }
    return yardstick.predict(features, {name: side.labels for name, side in split.sides.items()}, emotions)


def _by_majority(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    """Shares of the emotions in training, for every utterance; of equals, the first in label order is predicted."""
    shares = np.bincount(labels["train"], minlength=len(emotions)) / len(labels["train"])
    return {side: np.tile(shares, (len(labels[side]), 1)) for side in PREDICTED}, {}


def _by_svm(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    scaler = StandardScaler().fit(features["train"])
    scaled = {side: scaler.transform(rows) for side, rows in features.items()}
    classifier, chosen = fit_svm(scaled["train"], labels["train"], scaled["validation"], labels["validation"], emotions)
    return {side: classifier.probabilities(scaled[side]) for side in PREDICTED}, {
        "svm": chosen,
        "inverse_temperature": classifier.inverse_temperature,
        "validation_served_for": "C, gamma, temperature",
    }


def _by_vote(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    """A tie counts as wrong, since the truth gets a slightly smaller share. `ties_shared` counts a tie of n as 1/n."""
    truth = {side: np.eye(len(emotions))[labels[side]] for side in PREDICTED}
    handicapped = {side: features[side] * (1 - TIE_HANDICAP * truth[side]) for side in PREDICTED}
    shared = truth["test"].T @ features["test"]
    wa, uar, *_ = score_confusions(shared).tolist()
    about = {"ties_shared": {"wa": wa, "uar": uar, "confusion": shared.tolist()}}
    return {side: rows / rows.sum(axis=1, keepdims=True) for side, rows in handicapped.items()}, about


def _table(results: Results, scheme: str, *, pooled: bool) -> str:
    """A row per method and protocol, in percent over folds; pooled: over the test utterances of all folds."""
    rows = []
    for (name, protocol), tests in results.items():
        row: dict[str, Any] = {"method": name, "folds": len(tests)}
        wa, uar, *_ = score_confusions(np.sum([test["confusion"] for test in tests], axis=0))
        for metric, of_all in (("uar", uar), ("wa", wa)):
            over_folds = 100 * pd.Series([test[metric] for test in tests])
            row |= {f"{metric.upper()} {kind}": over_folds.agg(kind) for kind in ("mean", "min", "max", "std")}
            if pooled:
                row[f"{metric.upper()} pooled"] = 100 * of_all
        row["split"] = RANDOM_SPLIT if protocol == RANDOM_SPLIT else f"{protocol}, {scheme}"
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False, float_format="%.1f", na_rep="-")


def _premiums(results: Results) -> list[str]:
    """A line per method that was evaluated on both protocols."""

    def mean(name: str, protocol: str, metric: str) -> float:
        return 100 * float(np.mean([test[metric] for test in results[name, protocol]]))

    lines = []
    for name in (name for name, protocol in results if protocol == RANDOM_SPLIT):
        uar, wa = (mean(name, RANDOM_SPLIT, key) - mean(name, SPEAKER_INDEPENDENT, key) for key in ("uar", "wa"))
        lines.append(f"{name}: leak premium {uar:+.1f} UAR, {wa:+.1f} WA, mean over folds ({RANDOM_SPLIT})")
    return lines
