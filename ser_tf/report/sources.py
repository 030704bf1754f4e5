"""What lies in the folders that a report is made of: runs, sorted into evaluations and lines; sweeps; noise tests."""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from ser_tf.config import PRESETS, Config
from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.corpora.folds import CROSS_CORPUS, RANDOM_SPLIT, Scheme, load_scheme
from ser_tf.corpora.opening import KNOWN_CORPORA
from ser_tf.documents import read_json
from ser_tf.errors import UserError, shortened
from ser_tf.runs.folder import RunFolder
from ser_tf.statistics.noise import NoiseSummary, summarise_noise
from ser_tf.statistics.noise_folder import NoiseFolder
from ser_tf.statistics.table import PredictionTable, read_predictions
from ser_tf.strategies import STRATEGIES, start_in_words

NAMES = {"majority": "majority class", "mfcc_svm": "MFCC + SVM", "egemaps_svm": "eGeMAPS + SVM", "human": "listeners"}
"""What the yardsticks are called in a report."""
SWEEP, NOISE = "sweep.json", "noise.csv"
SWEEP_COLUMNS = ("fold", "seed", "best_validation_uar")
_SHARED = ("corpus", "scheme", "scheme_hash", "data_hash")
"""What the runs of an evaluation have in common."""
_EVALUATION = ("strategy", "fold", "weights", *_SHARED)
"""What the identity of a run tells when it belongs to an evaluation."""
_ONLY_VALIDATED = "validation_uars.json"
"""Stands where a comparison of settings trained a run and tested nobody."""


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
        """Whether the test speakers were heard in training."""
        return self.identity.get("protocol") == RANDOM_SPLIT

    @property
    def start(self) -> str:
        """What the network started from, in words."""
        if self.strategy not in STRATEGIES:
            return "no network"
        return start_in_words(self.identity["weights"])

    @property
    def pretrained_on(self) -> tuple[str, ...]:
        """Corpora of the speakers that the weights it first started from had learnt; none where there was no such."""
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
    def method(self) -> tuple[str, Config, str]:
        """What runs must share to stand on one line."""
        training = dataclasses.replace(self.config.training, seed=0)
        return self.strategy, dataclasses.replace(self.config, training=training), self.start

    @cached_property
    def log(self) -> pd.DataFrame:
        """A row per finished epoch; empty for a method without epochs."""
        if not self.folder.log.is_file():
            return pd.DataFrame()
        log = _read_table(self.folder.log, ("epoch",), "train this run again")
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
    def network(self) -> bool:
        """Whether a network is trained; otherwise it is a yardstick."""
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
        """Those that `finished` holds."""
        return tuple(sorted({run.fold for run in self.finished}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that `finished` holds."""
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
    """Networks before yardsticks, by label."""

    @property
    def random_split(self) -> bool:
        """Whether its test speakers were heard in training."""
        return any(run.random_split for run in self.runs)

    @property
    def cross_corpus(self) -> bool:
        """Whether it was trained on one corpus and tested on another."""
        return any(run.identity.get("protocol") == CROSS_CORPUS for run in self.runs)

    @property
    def runs(self) -> tuple[ReportedRun, ...]:
        """All of all lines."""
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
        """Everyone on a side of a run's fold, sorted."""
        sides = ("train_speakers", "validation_speakers", "test_speakers")
        return tuple(sorted({name for run in self.runs for side in sides for name in run.identity.get(side, ())}))

    @cached_property
    def folds(self) -> Scheme | None:
        """The folds, where they are those of the project's own file; None for a scheme of the user's own."""
        scheme = scheme_of(self.corpus, self.scheme, self.speakers)
        return scheme if scheme is not None and scheme.hash == self.scheme_hash else None

    @cached_property
    def fold_count(self) -> int | None:
        """How many folds a whole evaluation has.

        None where older runs of a user's own scheme do not record it, and across corpora, where every fold tests the
        same recordings.
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
        """Folds that every scored line has finished."""
        sets = [set(line.folds) for line in self.scored]
        return tuple(sorted(set.intersection(*sets))) if sets else ()


@dataclass(frozen=True)
class SweepTable:
    """What `ser-tf sweep` measured on validation speakers."""

    folder: Path
    corpus: str
    scheme: str
    strategy: str
    start: str
    parameters: tuple[str, ...]
    points: int
    """Of the whole grid."""
    epochs: int
    rows: pd.DataFrame
    """A row per run: fold, seed, the parameters, best_validation_uar."""


@dataclass(frozen=True)
class NoiseTest:
    """What `ser-tf noise` measured on finished runs."""

    folder: Path
    corpus: str
    finished: bool
    summary: NoiseSummary


@dataclass(frozen=True)
class Sources:
    """All that a report is made of."""

    evaluations: tuple[Evaluation, ...]
    sweeps: tuple[SweepTable, ...]
    noise_tests: tuple[NoiseTest, ...]
    others: tuple[Path, ...]
    """Run folders that belong to no evaluation."""


def find_sources(folders: Sequence[Path]) -> Sources:
    """Search folders at any depth.

    Raises:
        UserError: a folder does not exist or holds nothing to report; or a file in it is damaged.
    """
    runs: dict[Path, ReportedRun | None] = {}
    sweeps: dict[Path, SweepTable] = {}
    noise_tests: dict[Path, NoiseTest] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: expected a folder of runs; there is none")
        found = 0
        for path in _walk(folder):
            found += 1
            if (path / NOISE).is_file():
                noise_tests[path.resolve()] = _read_noise(path)
            elif (path / SWEEP).is_file():
                sweeps[path.resolve()] = _read_sweep(path)
            else:
                runs[path.resolve()] = _read_run(RunFolder(path))
        if not found:
            raise UserError(
                f"{folder}: expected runs, a sweep or a noise test. Received: a folder without; give what ser-tf "
                "evaluate, finetune, yardsticks or sweep wrote"
            )
    return Sources(
        evaluations=_evaluations([run for run in runs.values() if run is not None]),
        sweeps=tuple(sweeps.values()),
        noise_tests=tuple(noise_tests.values()),
        others=tuple(path for path, run in runs.items() if run is None),
    )


def scheme_of(corpus: str, scheme: str, speakers: Sequence[str] = ()) -> Scheme | None:
    """The folds of a corpus whose recordings are not at hand; None where they are not in the project's own file.

    Args:
        corpus: its name.
        scheme: name of its folds.
        speakers: of a corpus without fixed content.
    """
    published = [
        (name, parsed[0])
        for kind in KNOWN_CORPORA
        if kind.name == corpus
        for name in kind.published_names()
        if (parsed := kind.parse(name))
    ]
    pairs = published or [(name, name) for name in speakers]
    utterances = tuple(Utterance(name, Path(name), speaker, "") for name, speaker in pairs)
    try:
        return load_scheme(scheme, Corpus(corpus, Path(), utterances, (), (), ()))
    except UserError:
        return None


def preset_in_words(config: Config) -> str:
    """The nearest preset, and what differs from it; seed and ghost clusters belong to the run and its strategy."""
    ours = _flat(config)
    differences = {
        name: {key: value for key, value in ours.items() if value != theirs[key]}
        for name, theirs in ((name, _flat(preset)) for name, preset in PRESETS.items())
    }
    nearest = min(differences, key=lambda name: len(differences[name]))
    changes = ", ".join(f"{key} {value}" for key, value in differences[nearest].items())
    return nearest + (f"; {changes}" if changes else "")


def _flat(config: Config) -> dict[str, Any]:
    parts = dataclasses.asdict(config)
    return {
        f"{part}.{name}": value
        for part, values in parts.items()
        for name, value in values.items()
        if (part, name) not in {("training", "seed"), ("network", "ghost_clusters")}
    }


def _walk(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The folders that hold something; what lies below a run, a sweep or a noise test is part of it."""
    if any((folder / name).is_file() for name in ("run.json", SWEEP, NOISE)):
        yield folder
        return
    here = folder.resolve()
    for child in sorted(folder.iterdir()):
        if here not in above and child.is_dir():  # a link may lead back to where it lies
            yield from _walk(child, (*above, here))


def _read_run(folder: RunFolder) -> ReportedRun | None:
    """The run; None where it belongs to no evaluation."""
    identity = folder.read_identity()
    if identity.get("protocol") == CROSS_CORPUS and not identity.keys() >= {"trained_on", "tested_on", "left_out"}:
        return None
    if (folder.path / _ONLY_VALIDATED).is_file() or any(key not in identity for key in _EVALUATION):
        return None
    return ReportedRun(folder, identity, folder.read_made_with(), Config.load(folder.config))


def _evaluations(runs: Iterable[ReportedRun]) -> tuple[Evaluation, ...]:
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


def _lines(runs: Sequence[ReportedRun]) -> tuple[Line, ...]:
    """Runs of one method share a line, unless a fold and seed is there twice: then each folder has its own."""
    methods: list[list[ReportedRun]] = []
    for run in runs:
        alike = next((group for group in methods if group[0].method == run.method), None)
        if alike is None:
            methods.append([run])
        else:
            alike.append(run)
    groups = [part for group in methods for part in _apart(group)]
    strategies = [_display_name(group[0].strategy) for group in groups]
    labels = [
        _label(
            strategy, group[0], [other[0] for name, other in zip(strategies, groups, strict=True) if name == strategy]
        )
        for strategy, group in zip(strategies, groups, strict=True)
    ]
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


def _display_name(strategy: str) -> str:
    """The method's name; whatever marks it follows a comma and stays."""
    name, comma, mark = strategy.partition(",")
    return NAMES.get(name, name) + comma + mark


def _label(strategy: str, run: ReportedRun, variants: Sequence[ReportedRun]) -> str:
    """The strategy, and what tells a run from its other variants: its folder, its start, or the evaluation's folder."""
    if len(variants) == 1:
        return strategy
    if run.name != strategy:
        return f"{strategy} ({run.name})"
    starts = [variant.start.partition(" with ")[0] for variant in variants]
    start = run.start.partition(" with ")[0]
    if run.strategy in STRATEGIES and starts.count(start) == 1:
        return f"{strategy} from {start}"
    return f"{strategy} ({run.folder.path.resolve().parent.name})"


def _read_sweep(folder: Path) -> SweepTable:
    remedy = "start the same ser-tf sweep command again"
    wanted = {
        **dict.fromkeys(("corpus", "scheme", "strategy"), str),
        "start": (str, None),
        "afresh": [str],
        "parameters": {str: [object]},
        "epochs": int,
    }
    about = read_json(folder / SWEEP, remedy, wanted)
    parameters = tuple(about["parameters"])
    rows = _read_table(folder / "sweep.csv", (*SWEEP_COLUMNS, *parameters), remedy)
    whole = all(pd.api.types.is_integer_dtype(rows[name]) for name in ("fold", "seed"))
    scores = pd.to_numeric(rows["best_validation_uar"], errors="coerce")
    if not (parameters and whole and scores.between(0, 1).all() and rows[list(parameters)].notna().all(axis=None)):
        raise UserError(
            f"{folder / 'sweep.csv'}: expected folds and seeds in whole numbers, and UARs from 0 to 1; {remedy}"
        )
    start = ", ".join([about["start"] or "random weights", *(f"{layer} afresh" for layer in about["afresh"])])
    points = math.prod(len(values) for values in about["parameters"].values())
    return SweepTable(
        folder, about["corpus"], about["scheme"], about["strategy"], start, parameters, points, about["epochs"], rows
    )


def _read_noise(path: Path) -> NoiseTest:
    folder = NoiseFolder(path)
    about = folder.read_about()
    return NoiseTest(path, about["settings"]["corpus"], "summary" in about, summarise_noise(folder))


def _read_table(path: Path, columns: Sequence[str], remedy: str) -> pd.DataFrame:
    try:
        rows = pd.read_csv(path)
        lacking = [name for name in columns if name not in rows.columns]
        if lacking or rows.empty:
            raise ValueError(f"no column {lacking[0]}" if lacking else "no row")
    except (OSError, ValueError) as error:  # pandas's own errors of parsing are of the latter kind
        reason = shortened(" ".join(str(error).split()))
        raise UserError(f"{path}: expected a table of {', '.join(columns)}. Received: {reason}; {remedy}") from error
    return rows
