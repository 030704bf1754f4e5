"""Statistics of 100,000 predictions against reading them: seconds, and peak memory of a new process.

Ten folds of 100 speakers each, 8 emotions, one strategy; intervals use 9,999 resamples of speakers.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process, take_turns
from benchmarks.memory import peak
from ser_tf.corpora.corpus import EMOTIONS, Corpus

FOLDS = 10
SPEAKERS = 100
TAKES = 100


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    folders = [scratch / f"predictions-{fold}" for fold in range(1, FOLDS + 1)]
    in_new_process(_write_runs, folders)
    yield from in_new_process(_measure_seconds, folders)
    reading, all_of_it = peak(_read, folders), peak(_summarise, folders)
    yield Row("reading", reading, "MB")
    yield Row("reading, and all statistics", all_of_it, "MB", Ratio.of(all_of_it, reading, "reading"))


def _measure_seconds(folders: list[Path]) -> list[Row]:
    reading, all_of_it = take_turns(lambda: _read(folders), lambda: _summarise(folders))
    return [
        Row(f"reading {FOLDS * SPEAKERS * TAKES:,} predictions", float(np.median(reading)), "s"),
        Row("reading, and all statistics", float(np.median(all_of_it)), "s", Ratio.of(all_of_it, reading, "reading")),
    ]


def _read(folders: list[Path]) -> None:
    from ser_tf.statistics.table import read_predictions

    read_predictions(folders)


def _summarise(folders: list[Path]) -> None:
    from ser_tf.corpora.demographics import demographics_of
    from ser_tf.statistics.summary import summarise
    from ser_tf.statistics.table import read_predictions

    table = read_predictions(folders)
    summarise(table, demographics_of(table.rows["speaker"].unique().tolist()))


def _write_runs(folders: list[Path]) -> None:
    import pandas as pd

    from ser_tf.config import preset
    from ser_tf.runs.files import write_json
    from ser_tf.runs.folder import RunFolder

    generator = np.random.default_rng(0)
    shared = {"strategy": "S1", "corpus": "table", "scheme": "complete", "scheme_hash": "", "data_hash": ""}
    for fold, folder in enumerate(folders, start=1):
        run = RunFolder(folder)
        run.path.mkdir()
        preset("compact").save(run.config)
        write_json(run.identity, {"identity": {**shared, "fold": fold, "weights": None}})
        numbers = np.arange(SPEAKERS * TAKES)
        truth = numbers % len(EMOTIONS)
        shares = generator.dirichlet(np.ones(len(EMOTIONS)), size=len(truth)) + 0.3 * np.eye(len(EMOTIONS))[truth]
        shares = (shares / shares.sum(axis=1, keepdims=True)).round(6)
        columns = {
            "side": "test",
            "file": [f"{fold}/{number}.wav" for number in numbers],
            "speaker": [f"table:{fold}-{number // TAKES}" for number in numbers],
            "truth": np.array(EMOTIONS)[truth],
            "prediction": np.array(EMOTIONS)[shares.argmax(axis=1)],
        }
        table = pd.DataFrame(columns | dict(zip(EMOTIONS, shares.T, strict=True)))
        table.to_csv(run.predictions, index=False, float_format="%.6f")
        write_json(run.metrics, {})
