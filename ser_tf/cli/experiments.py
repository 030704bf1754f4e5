"""Commands that measure: simple methods on the same folds, and what noise does to finished runs."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ser_tf.cli.options import FoldOptions, import_tensorflow, name_left_out, open_folds
from ser_tf.config import Config


@dataclass(frozen=True)
class Yardsticks(FoldOptions):
    """Judge simple methods on the same folds: majority class, SVMs on acoustic features, and CREMA-D's listeners."""

    methods: tuple[str, ...] = ()
    """majority, mfcc_svm, egemaps_svm, human; by default all that can be had here."""
    protocol: Literal["honest", "random"] = "honest"
    """random: a split that hears the test speakers in training, beside the honest one, to show what a leak is worth."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the runs; by default runs/CORPUS-SCHEME-yardsticks. What is finished is kept."""

    def run(self) -> None:
        """Judge them and print the table."""
        corpus, scheme = open_folds(self)
        import_tensorflow()
        from ser_tf.experiments.yardsticks import choose, compare
        from ser_tf.pipeline import prepare_speech

        yardsticks, reasons = choose(self.methods, corpus)
        prepared = prepare_speech(corpus.utterances, Config())
        name_left_out([*reasons, *(reason for _, reason in prepared.failures)])
        folder = self.run_folder or Path("runs") / f"{corpus.name}-{scheme.name}-yardsticks"
        print(compare(yardsticks, corpus, scheme, prepared, protocol=self.protocol, folder=folder, report=print))


@dataclass(frozen=True)
class Noise:
    """Let finished runs hear their test speakers through white noise, pink noise and babble, before silence removal."""

    corpus: Path
    """The recordings the runs were made with."""
    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders with weights, of any strategies, folds and seeds; S1 and S3 show what ghost clusters do."""
    keep_excluded: bool = False
    """The runs were made with --keep-excluded."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Folder of the result; by default runs/CORPUS-noise. What is finished is kept."""

    def run(self) -> None:
        """Measure, and print the table and what it says of ghosts."""
        from ser_tf.corpora import open_corpus

        corpus = open_corpus(self.corpus, keep_excluded=self.keep_excluded)
        import_tensorflow()
        from ser_tf.experiments.noise import measure
        from ser_tf.experiments.noise_summary import noise_text, summarise_noise

        out = self.run_folder or Path("runs") / f"{corpus.name}-noise"
        folder = measure(corpus, self.runs, out, report=partial(print, flush=True))
        summary = summarise_noise(folder)
        folder.write_summary(dataclasses.asdict(summary))
        print(noise_text(summary))
