"""Options that several commands share: corpus, folds, preset, configuration."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ser_tf.config import Config
from ser_tf.errors import require_backend

if TYPE_CHECKING:
    from ser_tf.corpora.corpus import Corpus
    from ser_tf.corpora.folds import Scheme

Engine = Literal["local", "ray"]

Method = Annotated[Config, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class FoldOptions:
    """Options of every command that uses folds."""

    corpus: tuple[Path, ...]
    """Folders of known corpora (docs/corpora.md), or tables (CSV: path, speaker, emotion). Several are joined."""
    emotions: tuple[str, ...] = ()
    """Use only utterances of these emotions; by default of all emotions that one of the corpora has."""
    scheme: str = "complete"
    """Scheme of folds: published, corrected, complete, emobox (RAVDESS), or one of --scheme-file."""
    scheme_file: Path | None = None
    """Your own file of schemes, in the format of folds.yaml."""
    keep_excluded: bool = False
    """Keep the silent and contradictory recordings, which are left out by default."""


@dataclass(frozen=True)
class TrainingOptions(FoldOptions):
    """Options that finetune, evaluate and sweep share."""

    weights: Path | None = None
    """Start from these weights (embedding.weights.h5 of a run)."""
    preset: str = "compact"
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)


def open_folds(options: FoldOptions) -> tuple["Corpus", "Scheme"]:
    """Open the corpora and the folds that the options name; print what `emotions` leaves out."""
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.joined import open_corpora

    corpus = open_corpora(options.corpus, options.emotions, keep_excluded=options.keep_excluded)
    if corpus.left_out:
        print(f"left out: {', '.join(f'{count} {emotion}' for emotion, count in corpus.left_out.items())}", flush=True)
    return corpus, load_scheme(options.scheme, corpus, options.scheme_file)


def run_name(corpus: "Corpus") -> str:
    """The corpus in the default name of a run folder, with the emotions if only some are used."""
    return "-".join([corpus.name, *(corpus.emotions if corpus.left_out else ())]).replace("/", "-")


def import_tensorflow() -> None:
    """Import TensorFlow without its messages about CPU and GPU, unless TF_CPP_MIN_LOG_LEVEL is set.

    Raises:
        UserError: the environment chooses a Keras backend that is not supported.
    """
    require_backend()
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # its first messages ignore the level and bypass sys.stderr
    try:
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
