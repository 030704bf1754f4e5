"""Runs sorted into evaluations, and the runs of one method into a line of the tables."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ser_tf.config import Config, changed
from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.corpora.folds import CROSS_CORPUS, RANDOM_SPLIT, Scheme, load_scheme, published_speakers
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.documents import read_json
from ser_tf.errors import UserError, shortened
from ser_tf.runs.folder import RunFolder
from ser_tf.statistics.table import PredictionTable, read_predictions
from ser_tf.strategies import STRATEGIES, start_in_words

NAMES = {"majority": "majority class", "mfcc_svm": "MFCC + SVM", "egemaps_svm": "eGeMAPS + SVM", "human": "listeners"}
"""Yardsticks as the report writes them."""
_SHARED = ("corpus", "scheme", "scheme_hash", "data_hash")
"""Equal in all runs of an evaluation."""
_EVALUATION = ("strategy", "fold", "weights", *_SHARED)
"""Keys in the identity of every run that belongs to an evaluation."""
_ONLY_VALIDATED = "validation_uars.json"
"""File of a run that compared settings and was not tested."""


@dataclass(frozen=True)
class ReportedRun:
    """One run folder, finished or not."""

    folder: RunFolder
    identity: dict[str, Any]
    made_with: dict[str, Any]
    config: Config

    @property
    def strategy(self) -> str:
        """S1 to S5, or the name of a yardstick."""
        return self.identity["strategy"]

    @property
    def fold(self) -> int:
        """Counted from 1."""
        return self.identity["fold"]

    @property
    def seed(self) -> int:
        """Of initial weights, batches and crops."""
        return self.config.training.seed

    @property
    def random_split(self) -> bool:
        """Whether it was trained on its test speakers."""
        return self.identity.get("protocol") == RANDOM_SPLIT

    @property
    def start(self) -> str:
        """What the network started from, as in "S3 from random weights"."""
        if self.strategy not in STRATEGIES:
            return "no network"
        return start_in_words(self.identity["weights"])

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora that the first weights were pre-trained on; empty without pre-training."""
        weights = self.identity.get("weights")
        while weights and "strategy" in weights:
            weights = weights.get("started_from")
        return tuple(sorted({speaker.partition(":")[0] for speaker in weights["speakers"]})) if weights else ()

    @property
    def name(self) -> str:
        """The folder's name without fold and seed."""
        stem = self.folder.path.name.removesuffix("-random-split-speaker-dependent-not-comparable")
        return re.sub(r"-?(fold|seed)\d+", "", stem).strip("-") or self.folder.path.name

    @property
    def line_key(self) -> tuple[str, Config, str]:
        """Equal in all runs of a line: strategy, configuration without seed, start."""
        return self.strategy, changed(self.config, {"training.seed": 0}), self.start

    @cached_property
    def log(self) -> pd.DataFrame:
        """A row per finished epoch; empty for a method without epochs."""
        if not self.folder.log.is_file():
            return pd.DataFrame()
        log = read_columns(self.folder.log, ("epoch",), "train this run again")
        if not all(pd.api.types.is_numeric_dtype(kind) for kind in log.dtypes):
            raise UserError(f"{self.folder.log}: expected numbers; train this run again")
        return log


@dataclass(frozen=True)
class Line:
    """The runs of one method in one evaluation: a line of its tables."""

    label: str
    runs: tuple[ReportedRun, ...]
    """By fold and seed; at least one."""

    @property
    def strategy(self) -> str:
        """S1 to S5, or the name of a yardstick."""
        return self.runs[0].strategy

    @property
    def method(self) -> str:
        """The strategy without the mark of a random split."""
        return self.strategy.partition(",")[0]

    @property
    def network(self) -> bool:
        """Whether a network was trained; otherwise it is a yardstick."""
        return self.strategy in STRATEGIES

    @property
    def finished(self) -> tuple[ReportedRun, ...]:
        """The finished runs of the folds that every seed has finished."""
        done = [run for run in self.runs if run.folder.finished]
        seeds = {run.seed for run in done}
        balanced = [fold for fold in {run.fold for run in done} if seeds == {r.seed for r in done if r.fold == fold}]
        return tuple(run for run in done if run.fold in balanced)

    @property
    def folds(self) -> tuple[int, ...]:
        """Those of `finished`."""
        return tuple(sorted({run.fold for run in self.finished}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of `finished`."""
        return tuple(sorted({run.seed for run in self.finished}))

    def table(self) -> PredictionTable:
        """Test predictions of the finished runs, under the line's label.

        Raises:
            UserError: predictions are missing or damaged.
        """
        table = read_predictions([run.folder.path for run in self.finished])
        return dataclasses.replace(table, rows=table.rows.assign(strategy=self.label))


@dataclass(frozen=True)
class Evaluation:
    """Runs on the same recordings and the same folds."""

    corpus: str
    scheme: str
    scheme_hash: str
    data_hash: str
    lines: tuple[Line, ...]
    """Networks first, then yardsticks; each sorted by label."""

    @property
    def random_split(self) -> bool:
        """Whether its runs were trained on their test speakers."""
        return any(run.random_split for run in self.runs)

    @property
    def cross_corpus(self) -> bool:
        """Whether its runs were trained on one corpus and tested on another."""
        return any(run.identity.get("protocol") == CROSS_CORPUS for run in self.runs)

    @property
    def runs(self) -> tuple[ReportedRun, ...]:
        """The runs of all lines."""
        return tuple(run for line in self.lines for run in line.runs)

    @property
    def scored(self) -> tuple[Line, ...]:
        """The lines with a finished run."""
        return tuple(line for line in self.lines if line.finished)

    @property
    def networks(self) -> tuple[Line, ...]:
        """The scored lines of networks."""
        return tuple(line for line in self.scored if line.network)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers of all sides of all folds, sorted."""
        sides = ("train_speakers", "validation_speakers", "test_speakers")
        return tuple(sorted({name for run in self.runs for side in sides for name in run.identity.get(side, ())}))

    @cached_property
    def folds(self) -> Scheme | None:
        """The folds, if `folds.yaml` has them; None for a user's own scheme."""
        scheme = scheme_of(self.corpus, self.scheme, self.speakers)
        return scheme if scheme is not None and scheme.hash == self.scheme_hash else None

    @cached_property
    def fold_count(self) -> int | None:
        """Number of folds of the whole evaluation.

        None across corpora, where every fold tests the same recordings, and for older runs of a user's own scheme,
        which do not record it.
        """
        if self.folds:
            return len(self.folds.folds)
        if self.cross_corpus:
            return None
        finished = (run.folder.metrics for run in self.runs if run.folder.finished)
        metrics = (read_json(path, "train this run again", dict) for path in finished)
        return next((of["folds"] for of in metrics if isinstance(of.get("folds"), int)), None)

    @property
    def common_folds(self) -> tuple[int, ...]:
        """Folds that every scored line has finished, sorted."""
        sets = [set(line.folds) for line in self.scored]
        return tuple(sorted(set.intersection(*sets))) if sets else ()


def scheme_of(corpus: str, scheme: str, speakers: Sequence[str] = ()) -> Scheme | None:
    """The folds of a corpus without its recordings; None if `folds.yaml` does not have them.

    Args:
        corpus: its name.
        scheme: name of its folds.
        speakers: needed if the content of the corpus is not fixed.
    """
    names = published_speakers(corpus) or speakers
    utterances = tuple(Utterance(name, Path(name), name, "") for name in names)
    try:
        return load_scheme(scheme, Corpus(corpus, Path(), utterances, (), (), ()))
    except UserError:
        return None


def read_run(folder: RunFolder) -> ReportedRun | None:
    """The run; None if it belongs to no evaluation.

    Raises:
        UserError: `run.json` or `config.yaml` is missing or damaged.
    """
    identity = folder.read_identity()
    if identity.get("protocol") == CROSS_CORPUS and not identity.keys() >= {"trained_on", "tested_on", "left_out"}:
        return None
    if (folder.path / _ONLY_VALIDATED).is_file() or any(key not in identity for key in _EVALUATION):
        return None
    return ReportedRun(folder, identity, folder.read_made_with(), Config.load(folder.config))


def evaluations_of(runs: Iterable[ReportedRun]) -> tuple[Evaluation, ...]:
    """Runs with equal corpus, folds and recordings form an evaluation; random splits come last."""
    groups: dict[tuple[str, str, str, str], list[ReportedRun]] = defaultdict(list)
    for run in runs:
        corpus, scheme, scheme_hash, data_hash = (run.identity[key] for key in _SHARED)
        groups[corpus, scheme, scheme_hash, data_hash].append(run)
    made = [Evaluation(*key, _lines(group)) for key, group in groups.items()]
    corpora = [kind.name for kind in KNOWN_CORPORA]

    def order(evaluation: Evaluation) -> tuple[Any, ...]:
        place = corpora.index(evaluation.corpus) if evaluation.corpus in corpora else len(corpora)
        return evaluation.random_split, place, evaluation.scheme != "complete", evaluation.scheme

    return tuple(sorted(made, key=order))


def _lines(runs: Iterable[ReportedRun]) -> tuple[Line, ...]:
    """Runs of one method share a line; if a fold and seed occurs twice, each folder gets its own line."""
    alike: dict[tuple[str, Config, str], list[ReportedRun]] = defaultdict(list)
    for run in runs:
        alike[run.line_key].append(run)
    groups = [part for group in alike.values() for part in _apart(group)]
    firsts = [group[0] for group in groups]
    labels = [_label(run, [other for other in firsts if other.strategy == run.strategy]) for run in firsts]
    lines = [
        Line(
            label if labels.count(label) == 1 else f"{label}, variant {labels[: index + 1].count(label)}",
            tuple(sorted(group, key=lambda run: (run.fold, run.seed))),
        )
        for index, (label, group) in enumerate(zip(labels, groups, strict=True))
    ]
    return tuple(sorted(lines, key=lambda line: (not line.network, line.label)))


def _apart(group: list[ReportedRun]) -> list[list[ReportedRun]]:
    places = [(run.fold, run.seed) for run in group]
    if len(set(places)) == len(places):
        return [group]
    by_folder: dict[tuple[Path, str], list[ReportedRun]] = defaultdict(list)
    for run in group:
        by_folder[run.folder.path.parent.resolve(), run.name].append(run)
    return list(by_folder.values())


def _label(run: ReportedRun, variants: Sequence[ReportedRun]) -> str:
    """The strategy; with several variants also what distinguishes this one: its name, its start, or its folder."""
    method, comma, mark = run.strategy.partition(",")
    strategy = NAMES.get(method, method) + comma + mark
    if len(variants) == 1:
        return strategy
    if run.name != method:
        return f"{strategy} ({run.name})"
    starts = [variant.start.partition(" with ")[0] for variant in variants]
    start = run.start.partition(" with ")[0]
    if run.strategy in STRATEGIES and starts.count(start) == 1:
        return f"{strategy} from {start}"
    return f"{strategy} ({run.folder.path.resolve().parent.name})"


def read_columns(path: Path, columns: Sequence[str], remedy: str) -> pd.DataFrame:
    """Read a CSV table that has at least these columns and one row.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        rows = pd.read_csv(path)
        lacking = [name for name in columns if name not in rows.columns]
        if lacking or rows.empty:
            raise ValueError(f"no column {lacking[0]}" if lacking else "no row")
    except (OSError, ValueError) as error:  # pandas's own errors of parsing are of the latter kind
        reason = shortened(" ".join(str(error).split()))
        raise UserError(f"{path}: expected a table of {', '.join(columns)}. Received: {reason}; {remedy}") from error
    return rows
