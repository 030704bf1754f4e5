"""What several commands share: options that choose folds and a method, and how they are opened."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from ser_tf.config import Config
from ser_tf.errors import require_backend

if TYPE_CHECKING:
    from ser_tf.corpora.corpus import Corpus
    from ser_tf.corpora.folds import Scheme

Method = Annotated[Config, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class FoldOptions:
    """What every command that goes over folds shares."""

    corpus: Path
    """Folder of RAVDESS, CREMA-D or the synthetic corpus, or a table (CSV: path, speaker, emotion)."""
    scheme: str = "complete"
    """published, corrected, complete, emobox (RAVDESS), or one of your own file."""
    folds: Path | None = None
    """Your own file of folds, in the form of folds.yaml."""
    keep_excluded: bool = False
    """Use the silent and contradictory recordings that are left out by default."""


@dataclass(frozen=True)
class TrainingOptions(FoldOptions):
    """What finetune and evaluate share."""

    weights: Path | None = None
    """Start from these weights (embedding.weights.h5 of a run)."""
    preset: str = "compact"
    """paper, compact, tiny, vggvox, or a configuration in YAML; the options below change single parameters."""
    config: Method = field(default_factory=Config)


def open_folds(options: FoldOptions) -> tuple["Corpus", "Scheme"]:
    """The corpus and the folds that the options name."""
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus

    corpus = open_corpus(options.corpus, keep_excluded=options.keep_excluded)
    return corpus, load_scheme(options.scheme, corpus, options.folds)


def import_tensorflow() -> None:
    """Import TensorFlow without its remarks on CPU and GPU, unless TF_CPP_MIN_LOG_LEVEL says what is to be shown.

    Raises:
        UserError: the environment chooses another backend of Keras than ours.
    """
    require_backend()
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)  # its first remarks heed no level, and go past sys.stderr
    try:
        import tensorflow

        tensorflow.get_logger().setLevel("ERROR")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)
