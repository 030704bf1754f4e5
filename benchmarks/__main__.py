"""`make bench`, or `python -m benchmarks [--corpus DIR] [--only NAME ...] [--json FILE]`."""

import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from benchmarks.machine import provenance
from benchmarks.measuring import Row, in_new_process, rows_of
from benchmarks.recordings import sample_of, speakers_of, synthetic_corpus
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError

Benchmark = Literal[
    "signal_line", "steps", "training", "predict", "stream", "memory", "statistics", "prepare", "engines", "server"
]
BENCHMARKS: tuple[Benchmark, ...] = get_args(Benchmark)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print ratios of things measured side by side in this run: median and interquartile range."""

    corpus: Path | None = None
    """Folder of RAVDESS or CREMA-D, or a table; by default synthetic recordings at 48 kHz. With only prepare, any
    folder of speakers."""
    only: tuple[Benchmark, ...] = tuple(name for name in BENCHMARKS if name != "stream")
    """Run only these; by default all but stream, which takes many minutes."""
    json: Path | None = None
    """Also write the numbers to this file."""


def main(arguments: Arguments) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # several processes share a GPU
    made_with = in_new_process(provenance)
    print(f"{made_with['machine']}; load {made_with['load_average']:.1f} before the run")
    print(_versions(made_with))
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        os.environ["SER_TF_CACHE"] = str(scratch / "cache")
        corpus = sample_of(_opened(arguments)) if arguments.corpus else synthetic_corpus(scratch / "corpus")
        print(f"{len(corpus.utterances)} recordings, {corpus.name}")
        rows = {name: _print_rows(name, corpus, scratch) for name in arguments.only}
    if arguments.json is not None:
        results = {name: [dataclasses.asdict(row) for row in some] for name, some in rows.items()}
        arguments.json.write_text(json.dumps({"made_with": made_with, "results": results}, indent=2) + "\n")


def _opened(arguments: Arguments) -> Corpus:
    """The given corpus; with only prepare, any folder of speakers."""
    assert arguments.corpus is not None
    return speakers_of(arguments.corpus) if arguments.only == ("prepare",) else open_corpus(arguments.corpus)


def _print_rows(name: str, corpus: Corpus, scratch: Path) -> list[Row]:
    rows = in_new_process(rows_of, name, corpus, scratch)
    print(f"\n{name.replace('_', ' ')}", *rows, sep="\n", flush=True)
    return rows


def _versions(made_with: dict[str, Any]) -> str:
    versions = {"ser_tf": made_with["commit"] or made_with["ser_tf"], "python": made_with["python"]}
    return ", ".join(f"{name} {version}" for name, version in (versions | made_with["packages"]).items())


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
