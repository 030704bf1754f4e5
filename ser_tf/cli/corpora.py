"""Commands that audit a corpus and write the synthetic one."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@dataclass(frozen=True)
class Audit:
    """Read every file of a corpus, and report its defects."""

    directory: tyro.conf.Positional[Path]
    """Folder of a known corpus (docs/corpora.md), or a table (CSV: path, speaker, emotion)."""
    json: Path | None = None
    """Also write the report to this file."""

    def run(self) -> None:
        """Print the report."""
        from ser_tf.corpora.audit import audit

        report = audit(self.directory, progress=sys.stderr.isatty())
        print(report.to_text())
        if self.json is not None:
            self.json.write_text(report.to_json() + "\n")


@dataclass(frozen=True)
class Synthesise:
    """Write the synthetic corpus: speech-like utterances of several speakers and emotions."""

    directory: tyro.conf.Positional[Path]
    """Folder to write; a complete corpus is left as it is."""
    speakers: int = 12
    takes: int = 4
    """Utterances per speaker and emotion."""
    seed: int = 0

    def run(self) -> None:
        """Write the corpus."""
        from ser_tf.corpora.synthetic import synthesise

        synthesise(self.directory, speakers=self.speakers, takes=self.takes, seed=self.seed)
        print(f"{self.directory}: {self.speakers} speakers")
