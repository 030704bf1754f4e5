"""The result files of a fold: predictions, confusion matrix, metrics."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ser_tf.corpora.corpus import Corpus
from ser_tf.errors import printable
from ser_tf.metrics import Scores, score
from ser_tf.pipeline import PreparedSpeech
from ser_tf.runs.files import write_csv
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import FIRST_COLUMNS
from ser_tf.training.sides import Side


def write_results(
    run: RunFolder,
    corpus: Corpus,
    prepared: PreparedSpeech,
    sides: Mapping[str, Side],
    probabilities: Mapping[str, np.ndarray],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Score the validation and test sides; write `predictions.csv`, `confusion.csv` and, last, `metrics.json`.

    Args:
        run: the run folder.
        corpus: the utterances.
        prepared: their speech.
        sides: "train", "validation" and "test".
        probabilities: of "validation" and "test", float [N, C]; the largest of a row is the prediction.
        about: further entries of `metrics.json`, as JSON values.

    Returns:
        The content of `metrics.json`.
    """
    scores = {name: score(sides[name].labels, rows, corpus.emotions) for name, rows in probabilities.items()}
    _write_predictions(run, corpus, sides, probabilities)
    _write_confusion(run, scores["test"], corpus.emotions)
    result = {
        **about,
        "emotions": list(corpus.emotions),
        "test": dataclasses.asdict(scores["test"]),
        "validation": dataclasses.asdict(scores["validation"]),
        "excluded": {exclusion.name: exclusion.reason for exclusion in corpus.exclusions},
        "unreadable": {utterance.name: reason for utterance, reason in prepared.failures},
        "whole_waveform_kept": sum(item.kept_whole for side in sides.values() for item in side.speech),
    }
    run.finish(result)
    return result


def _write_predictions(
    run: RunFolder, corpus: Corpus, sides: Mapping[str, Side], probabilities: Mapping[str, np.ndarray]
) -> None:
    emotions = corpus.emotions
    root = corpus.root if corpus.root.is_dir() else corpus.root.parent
    rows: list[list[Any]] = [[*FIRST_COLUMNS, *emotions]]
    for name, distributions in probabilities.items():
        for item, distribution in zip(sides[name].speech, distributions, strict=True):
            utterance = item.utterance
            file = printable(os.path.relpath(utterance.path, root))
            prediction = emotions[int(distribution.argmax())]
            shares = (f"{share:.6f}" for share in distribution)
            rows.append([name, file, utterance.speaker, utterance.emotion, prediction, *shares])
    write_csv(run.predictions, rows)


def _write_confusion(run: RunFolder, scores: Scores, emotions: Sequence[str]) -> None:
    rows: list[list[Any]] = [["truth", *emotions, *(f"{emotion} %" for emotion in emotions)]]
    for emotion, row in zip(emotions, scores.confusion, strict=True):
        rows.append([emotion, *row, *(f"{100 * count / max(sum(row), 1):.1f}" for count in row)])
    write_csv(run.confusion, rows)
