"""Where the numbers come from, and which parts of the full report are missing."""

from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

from ser_tf.report.document import Bullets, Section, Table
from ser_tf.report.evaluations import Evaluation, ReportedRun
from ser_tf.report.sources import Sources
from ser_tf.runs.provenance import commit


def provenance(sources: Sources) -> Section:
    """Folders, seeds, commits, versions, machines and hashes of all runs, and the report's own version."""
    rows = [
        [
            f"{evaluation.corpus}, {evaluation.scheme}",
            line.label,
            _folders(line.runs),
            ", ".join(sorted({str(run.seed) for run in line.runs})),
            _all(run.made_with.get("commit") for run in line.runs),
            evaluation.data_hash,
            evaluation.scheme_hash,
        ]
        for evaluation in sources.evaluations
        for line in evaluation.lines
    ]
    runs = [run for evaluation in sources.evaluations for run in evaluation.runs]
    made = {_environment(run.made_with): None for run in runs}
    versions = [f"The runs: {text}." for text in made]
    versions.append(f"This report: ser_tf {metadata.version('ser_tf')}, commit {commit()}.")
    starts = [
        f"{line.label}, fold {run.fold}, seed {run.seed} (`{run.folder.path}`) starts from "
        f"`{run.identity['weights']['sha256']}`."
        for evaluation in sources.evaluations
        for line in evaluation.lines
        for run in line.runs
        if run.identity["weights"] and "sha256" in run.identity["weights"]
    ]
    others = [f"`{path}` belongs to no evaluation and was left out." for path in sources.others]
    columns = ["evaluation", "method", "folders", "seeds", "commit", "data hash", "folds hash"]
    return Section("Provenance", [Table("Runs.", columns, rows), Bullets([*versions, *starts, *others])])


def missing_data(sources: Sources) -> Iterator[str]:
    """What the report could also show, with the command that produces it."""
    honest = [one for one in sources.evaluations if not one.random_split and not one.cross_corpus]
    corpora = {evaluation.corpus for evaluation in honest}
    for corpus, name in (("ravdess", "RAVDESS"), ("crema_d", "CREMA-D")):
        if corpus not in corpora:
            yield (
                f"{name}: `ser-tf evaluate --corpus {name} --strategies S1 S3`, then S4 and S5 with `--start-from S3`; "
                f"`ser-tf yardsticks --corpus {name}`."
            )
    for evaluation in honest:
        there = {line.strategy for line in evaluation.lines}
        where = f"{evaluation.corpus}, {evaluation.scheme}"
        lacking = [name for name in ("S1", "S2", "S3", "S4", "S5") if name not in there]
        if lacking:
            more = " (S2 needs pre-trained weights: `--weights`)" if "S2" in lacking else ""
            yield f"{where}: {', '.join(lacking)}; `ser-tf evaluate --strategies {' '.join(lacking)}`{more}."
        if not any(not line.network for line in evaluation.lines):
            yield f"{where}: simple methods on the same folds; `ser-tf yardsticks --scheme {evaluation.scheme}`."
        yield from _unfinished(evaluation)
    swept = {name for sweep in sources.sweeps for name in sweep.parameters}
    if not {"network.clusters", "network.ghost_clusters"} <= swept:
        yield "Figure 10, K and G: `ser-tf sweep` over `network.clusters` and `network.ghost_clusters`."
    if not {"loss.alpha", "loss.beta"} <= swept:
        yield "Figure 11, alpha and beta: `ser-tf sweep` over `loss.alpha` and `loss.beta`."
    if not sources.noise_tests:
        yield "Robustness to noise: `ser-tf noise` on finished runs with weights (a folder with `noise.csv`)."


def _unfinished(evaluation: Evaluation) -> Iterator[str]:
    for line in evaluation.lines:
        total = evaluation.fold_count or 0
        if len(line.folds) < total:
            left = sorted(set(range(1, total + 1)) - set(line.folds))
            yield (
                f"{evaluation.corpus}, {evaluation.scheme}: {line.label} lacks folds {', '.join(map(str, left))}; "
                "run the same command again; finished runs are kept."
            )


def _folders(runs: Sequence[ReportedRun]) -> str:
    """The folder of a single run; the parent folders of several."""
    if len(runs) == 1:
        return f"`{runs[0].folder.path}`"
    return ", ".join(dict.fromkeys(f"`{run.folder.path.parent}`" for run in runs))


def _all(values: Iterator[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if value is not None})) or "unknown"


def _environment(made_with: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in made_with.get("packages", {}).items())
    return (
        f"ser_tf {made_with.get('ser_tf', '?')}, Python {made_with.get('python', '?')}, {packages}, backend "
        f"{made_with.get('backend', '?')}, {made_with.get('machine', '?')}"
    )
