"""Yardsticks: simple methods on exactly the folds of the networks, in run folders of the same form.

A yardstick sees each utterance as one vector: nothing (majority), statistics of MFCCs of the speech, eGeMAPSv02 of the
waveform (Eyben et al. 2016), or what listeners voted (CREMA-D).
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
from ser_tf.corpora import crema_d
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import Scheme
from ser_tf.errors import UserError
from ser_tf.experiments.splits import RANDOM_SPLIT, SPEAKER_INDEPENDENT, Split, honest_splits, random_splits
from ser_tf.pipeline import PreparedSpeech, SpeechFile
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.training.results import write_results
from ser_tf.training.sides import without_contradictions

TIE_HANDICAP = 1e-5
"""How far the truth stands behind its equals in a vote; seen in the six decimals of `predictions.csv`."""
JUDGED = ("validation", "test")

PerSide = dict[str, np.ndarray]
Results = dict[tuple[str, str], list[dict[str, Any]]]
"""Method and protocol -> scores on the test side of each fold."""


@dataclass(frozen=True)
class Yardstick:
    """A method that needs no network.

    Attributes:
        name: stands where the run of a network has its strategy.
        input: what it judges by; part of a run's identity.
        describe: what it sees of N utterances, float [N, F].
        judge: features float [N, F] and labels int [N] of each side, and the C emotions -> float [N, C] of the
            validation and the test side, and what `metrics.json` says of the method.
    """

    name: str
    input: str
    describe: Callable[[Sequence[SpeechFile]], np.ndarray]
    judge: Callable[[PerSide, PerSide, tuple[str, ...]], tuple[PerSide, dict[str, Any]]]


def choose(names: Sequence[str], corpus: Corpus) -> list[Yardstick]:
    """The yardsticks of these names; without names all that can be had here, and a warning says why the others cannot.

    Raises:
        UserError: one that is asked for by name does not exist or cannot be had.
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
    """Judge every yardstick on every fold, each in a run folder of its own; finished ones are read.

    Args:
        yardsticks: the methods.
        corpus: where the utterances come from.
        scheme: the folds.
        prepared: the speech of every utterance.
        protocol: "random" judges a random split beside the folds of the scheme.
        folder: of the runs.
        report: takes one line about what goes on.

    Returns:
        A table, and below it what a random split adds.

    Raises:
        UserError: as `honest_splits` and `random_splits`, or a folder holds another run.
    """
    corpus, prepared = without_contradictions(corpus, prepared)
    splits = honest_splits(corpus, scheme, prepared)
    if protocol == "random":
        splits += random_splits(corpus, scheme, prepared)
    results: Results = {}
    for yardstick in yardsticks:
        described = cache(partial(_described, yardstick, prepared, report))  # once, if a fold is left to judge
        for split in splits:
            run = RunFolder(folder / split.folder(yardstick.name))
            identity = split.identity(yardstick.name, corpus, prepared) | {"input": yardstick.input}
            if yardstick.judge is _by_svm:
                identity["confidence"] = COUPLING  # older runs counted votes
            with run.alone():
                run.begin(identity, Config())  # decoder and silence removal alone matter, and no preset changes them
                if run.finished:
                    result = run.result(report, WRITTEN)
                else:
                    probabilities, about = _judge(yardstick, split, described(), corpus.emotions)
                    shown = ("strategy", "protocol", "corpus", "scheme", "fold", "weights", "input")
                    about = {key: identity[key] for key in shown} | about
                    result = write_results(run, corpus, prepared, split.sides, probabilities, about)
            results.setdefault((yardstick.name, split.protocol), []).append(result["test"])
            if "ties_shared" in result:
                tied = f"{yardstick.name}, ties shared"
                results.setdefault((tied, split.protocol), []).append(result["ties_shared"])
    each_tested_once = not scheme.tested_twice and not scheme.never_tested
    return "\n".join([_table(results, scheme.name, pooled=each_tested_once), *_premiums(results)])


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
        """Float [N, C]: an even share for each emotion that has the most votes."""
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
    """What the yardstick sees of each utterance, by name."""
    report(f"{yardstick.name}: describing {len(prepared.items)} utterances")
    names = (item.utterance.name for item in prepared.items)
    return dict(zip(names, yardstick.describe(prepared.items).astype("float64"), strict=True))


def _judge(
    yardstick: Yardstick, split: Split, described: dict[str, np.ndarray], emotions: tuple[str, ...]
) -> tuple[PerSide, dict[str, Any]]:
    features = {
        name: np.stack([described[item.utterance.name] for item in side.speech]) for name, side in split.sides.items()
    }
    return yardstick.judge(features, {name: side.labels for name, side in split.sides.items()}, emotions)


def _by_majority(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    """The shares of the training side, for every utterance; among equals the first in label order wins."""
    shares = np.bincount(labels["train"], minlength=len(emotions)) / len(labels["train"])
    return {side: np.tile(shares, (len(labels[side]), 1)) for side in JUDGED}, {}


def _by_svm(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    scaler = StandardScaler().fit(features["train"])
    scaled = {side: scaler.transform(rows) for side, rows in features.items()}
    classifier, chosen = fit_svm(scaled["train"], labels["train"], scaled["validation"], labels["validation"], emotions)
    return {side: classifier.probabilities(scaled[side]) for side in JUDGED}, {
        "svm": chosen,
        "inverse_temperature": classifier.inverse_temperature,
        "validation_served_for": "C, gamma, temperature",
    }


def _by_vote(features: PerSide, labels: PerSide, emotions: tuple[str, ...]) -> tuple[PerSide, dict[str, Any]]:
    """A tie is counted wrong: the truth stands a hair behind its equals. `ties_shared` counts a tie of n as 1/n."""
    truth = {side: np.eye(len(emotions))[labels[side]] for side in JUDGED}
    handicapped = {side: features[side] * (1 - TIE_HANDICAP * truth[side]) for side in JUDGED}
    shared = truth["test"].T @ features["test"]
    wa, uar = _rates(shared)
    about = {"ties_shared": {"wa": wa, "uar": uar, "confusion": shared.tolist()}}
    return {side: rows / rows.sum(axis=1, keepdims=True) for side, rows in handicapped.items()}, about


def _rates(confusion: np.ndarray) -> tuple[float, float]:
    """WA and UAR of counts or shares [C, C], a row per true emotion."""
    totals = confusion.sum(axis=1)
    recalls = confusion.diagonal()[totals > 0] / totals[totals > 0]
    return float(confusion.trace() / totals.sum()), float(recalls.mean())


def _table(results: Results, scheme: str, *, pooled: bool) -> str:
    """A row per method and protocol: percent over folds; pooled, of the test utterances of all folds together."""
    rows = []
    for (name, protocol), tests in results.items():
        row: dict[str, Any] = {"method": name, "folds": len(tests)}
        together = _rates(np.sum([test["confusion"] for test in tests], axis=0))
        for metric, of_all in zip(("wa", "uar"), together, strict=True):
            over_folds = 100 * pd.Series([test[metric] for test in tests])
            row |= {f"{metric.upper()} {kind}": over_folds.agg(kind) for kind in ("mean", "min", "max", "std")}
            if pooled:
                row[f"{metric.upper()} pooled"] = 100 * of_all
        row["split"] = RANDOM_SPLIT if protocol == RANDOM_SPLIT else f"{protocol}, {scheme}"
        rows.append(row)
    return pd.DataFrame(rows).to_string(index=False, float_format="%.1f", na_rep="-")


def _premiums(results: Results) -> list[str]:
    """A line per method that was judged on both protocols."""

    def mean(name: str, protocol: str, metric: str) -> float:
        return 100 * float(np.mean([test[metric] for test in results[name, protocol]]))

    lines = []
    for name in (name for name, protocol in results if protocol == RANDOM_SPLIT):
        wa, uar = (mean(name, RANDOM_SPLIT, key) - mean(name, SPEAKER_INDEPENDENT, key) for key in ("wa", "uar"))
        lines.append(f"{name}: leak premium {wa:+.1f} WA, {uar:+.1f} UAR, mean over folds ({RANDOM_SPLIT})")
    return lines
