"""Read folders of runs and write the report."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError, import_extra
from ser_tf.runs.lock import alone_in


def write_report(folders: Sequence[Path], out: Path, corpora: Sequence[Path], report: Callable[[str], None]) -> None:
    """Write `report.html`, `report.md` and `figures/` about everything in these folders.

    Args:
        folders: runs, folders of runs, sweeps and noise tests, at any depth.
        out: folder of the report; files of the same name are replaced.
        corpora: directories of recordings, for the figures of embeddings.
        report: receives a line per step.

    Raises:
        UserError: matplotlib is missing, there is nothing to report, a file is damaged, or another process is writing
            to `out`.
    """
    import_extra("matplotlib", "report: expected matplotlib, which draws its figures", "report")
    if not folders:
        raise UserError("runs: expected at least one folder; give those that ser-tf evaluate wrote")
    from ser_tf.report.compose import compose
    from ser_tf.report.figures import style
    from ser_tf.report.page import write_pages
    from ser_tf.report.sources import find_sources

    sources = find_sources(folders)
    recordings = {corpus.name: corpus for corpus in map(open_corpus, corpora)}
    out.mkdir(parents=True, exist_ok=True)
    with alone_in(out), style():
        write_pages(
            compose(sources, recordings, report), out, f"Written by ser-tf report on {datetime.now(UTC):%Y-%m-%d}."
        )
    report(f"written to {out / 'report.html'}, {out / 'report.md'} and {out / 'figures'}")
