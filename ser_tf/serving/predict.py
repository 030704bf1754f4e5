"""Name the emotion of a recording with a finished run or its export; the corpus is not needed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import Source, read_waveform, to_waveform
from ser_tf.classifier import Classifier
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.errors import UserError
from ser_tf.network.se_resnet import (
    SOFTMAX_HEAD,
    descriptor_count,
    embedding_network,
    precision,
    with_softmax_head,
)
from ser_tf.pipeline import inputs_of
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import load_weights

SAVED_MODEL = "saved_model.pb"
"""File that marks a folder as a SavedModel."""
LABELS = "labels.txt"
"""Asset of an export: one emotion per line, in the order of the probabilities."""
CONFIG = "config.yaml"
"""Asset of an export: the run's configuration."""
PREDICTIONS = "predictions.csv"
"""Asset of an export: the run's predictions for its validation and test recordings."""
UNFINISHED = "unfinished-"
"""Prefix of a version being written; not a number, so servers ignore it."""


@dataclass(frozen=True)
class Prediction:
    """The predicted emotion of a recording.

    Attributes:
        emotion: the likeliest emotion.
        probability: its calibrated probability.
        probabilities: of all emotions.
        speech_seconds: length of the speech left after silence removal.
        embedding: float32 [K*D], unit norm.
        ghost_share: float32 [M], the share of each descriptor assigned to ghost clusters; 0 without ghosts.
    """

    emotion: str
    probability: float
    probabilities: dict[str, float]
    speech_seconds: float
    embedding: np.ndarray = field(repr=False, compare=False)
    ghost_share: np.ndarray = field(repr=False, compare=False)


class Recogniser:
    """A finished run, ready to name emotions.

    Example:
        >>> recogniser = ser_tf.load("runs/mine")  # doctest: +SKIP
        >>> recogniser("clip.wav").emotion  # doctest: +SKIP
        'happy'
    """

    def __init__(self, config: Config, embedding: keras.Model, features: keras.Model, classifier: Classifier) -> None:
        self.config = config
        self.embedding = embedding
        self.features = features
        self.classifier = classifier
        self._process = os.getpid()

    @property
    def emotions(self) -> tuple[str, ...]:
        """The emotions that it knows, in label order."""
        return self.classifier.emotions

    def __call__(self, recording: Source | np.ndarray, rate_hz: int | None = None) -> Prediction:
        """Waveform -> speech -> spectrogram -> embedding -> emotion.

        Args:
            recording: path of a file, its content (bytes, bytearray, memoryview), an open file (BytesIO), or samples
                [N] or [N, channels].
            rate_hz: sampling rate of samples.

        Raises:
            UserError: the recording cannot be read, is silent, too short or too long; or samples come without a rate.
        """
        _refuse_fork(self._process)
        name = _name_of(recording)
        waveform = _waveform(recording, rate_hz)
        speech = remove_silence(waveform, self.config.vad, name)
        inputs = inputs_of(speech.waveform, self.config)
        probabilities, outputs = self.outputs_of(inputs)
        descriptors = descriptor_count(int(inputs["frames"][0]), self.config.network)
        distribution = probabilities[0]
        best = int(distribution.argmax())
        return Prediction(
            self.emotions[best],
            float(distribution[best]),
            dict(zip(self.emotions, distribution.tolist(), strict=True)),
            len(speech.samples) / SAMPLE_RATE_HZ,
            outputs["embedding"][0],
            outputs["ghost_share"][0, :descriptors],
        )

    def outputs_of(self, inputs: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Predict the emotions of a batch.

        Args:
            inputs: {"spectrogram": float32 [B, T, bins], "frames": int32 [B]}.

        Returns:
            Distributions over the emotions, float64 [B, C]; and the network's outputs: `embedding` [B, K*D],
            `ghost_share` [B, M], 0 beyond an utterance's own descriptors, and `logits` if there is a softmax head.
        """
        _refuse_fork(self._process)
        outputs = {name: np.asarray(value) for name, value in self.features.predict_on_batch(inputs).items()}
        used = "logits" if self.classifier.svm is None else "embedding"
        return self.classifier.probabilities(outputs[used]), outputs


class ExportedRecogniser:
    """A SavedModel written by `ser-tf export`, used like a `Recogniser`.

    Raises:
        UserError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._process = os.getpid()
        try:
            self.emotions = tuple((path / "assets" / LABELS).read_text(encoding="utf-8").splitlines())
            self.config = Config.load(path / "assets" / CONFIG)
            self._saved = tf.saved_model.load(str(path))
            self._answers = self._saved.signatures["serving_default"]
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(f"{path}: expected a version written by ser-tf export; {reason}; export again") from error

    def __call__(self, recording: Source | np.ndarray, rate_hz: int | None = None) -> Prediction:
        """Like `Recogniser.__call__`; the SavedModel computes every step after the waveform."""
        _refuse_fork(self._process)
        waveform = _waveform(recording, rate_hz)
        answer = {name: rows[0].numpy() for name, rows in self._answers(waveform=tf.constant(waveform[None])).items()}
        if answer["problem"]:
            raise UserError(f"{_name_of(recording)}: {answer['problem'].decode()}")
        distribution = answer["probabilities"].tolist()
        return Prediction(
            answer["emotion"].decode(),
            max(distribution),
            dict(zip(self.emotions, distribution, strict=True)),
            round(float(answer["speech_seconds"]) * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ,
            answer["embedding"],
            answer["ghost_share"],
        )


def load(run: str | Path) -> Recogniser | ExportedRecogniser:
    """Load a finished run, the newest version of an export, or one version of it.

    Raises:
        UserError: the folder is none of these; it is an export to ONNX or LiteRT; the run is not finished; or a file is
            damaged.
    """
    path = Path(run)
    if is_portable(path):
        raise UserError(
            f"{path}: expected a run or a SavedModel of ser-tf export. Received: one to ONNX or LiteRT, which runs in "
            "its own engine (docs/serving.md); give the run, or export it with --format saved-model"
        )
    version = exported_version(path)
    return load_run(path) if version is None else ExportedRecogniser(version)


def load_run(run: Path, policy: str | None = None) -> Recogniser:
    """Load a finished run.

    Args:
        run: its folder.
        policy: Keras dtype policy to compute in; by default that of the training.

    Raises:
        UserError: the folder is not a run, is not finished, or is damaged; or a file is not as the run wrote it.
    """
    folder = RunFolder(run)
    folder.require_finished()
    if "pretraining" in folder.read_identity():
        raise UserError(
            f"{run}: expected a run that names emotions. Received: a pre-training, which distinguishes speakers; "
            f"fine-tune it: ser-tf finetune --weights {folder.weights}"
        )
    folder.require_unchanged()
    config = Config.load(folder.config)
    classifier = Classifier.load(folder.path)
    with precision(policy or config.training.precision):
        embedding = embedding_network(config.network, config.spectrogram.bins)
        features = embedding
        if classifier.svm is None:
            features = with_softmax_head(embedding, len(classifier.emotions), config.network.head_units)
    size = embedding.output["embedding"].shape[-1]
    if classifier.svm is not None and classifier.svm.support.shape[1] != size:
        raise UserError(
            f"{run}: expected an SVM on embeddings of size {size}, as in config.yaml. Received: one of size "
            f"{classifier.svm.support.shape[1]}; restore the files, or remove the folder and train again"
        )
    load_weights(embedding, folder.weights)
    if classifier.svm is None:
        load_weights(features.get_layer(SOFTMAX_HEAD), folder.head_weights)
    return Recogniser(config, embedding, features, classifier)


def exported_version(path: Path) -> Path | None:
    """The newest version in the folder of an export, or the folder itself if it is a version; None for other folders.

    Raises:
        UserError: the folder of an export has no finished version.
    """
    if not path.name.startswith(UNFINISHED):
        if (path / SAVED_MODEL).is_file():
            return path
        versions = export_versions(path)
        if versions:
            return path / str(versions[-1])
    if path.is_dir() and (path.name.startswith(UNFINISHED) or any(path.glob(f"{UNFINISHED}*/"))):
        raise UserError(f"{path}: expected a finished export. Received: one that was interrupted; export again")
    return None


def is_portable(path: Path) -> bool:
    """Whether a folder is an export to ONNX or LiteRT, which has its assets beside the models."""
    return (path / LABELS).is_file()


def export_versions(folder: Path) -> list[int]:
    """Numbers of the versions in the folder of an export, ascending; empty if the folder does not exist."""
    names = [model.parent.name for model in folder.glob(f"[0-9]*/{SAVED_MODEL}")]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and str(int(name)) == name)


def _refuse_fork(loaded_by: int) -> None:
    """Refuse to compute in a fork of the process that loaded the model, where TensorFlow would hang."""
    if os.getpid() != loaded_by:
        raise UserError(
            f"this process ({os.getpid()}) was forked from the one that loaded the model ({loaded_by}), and TensorFlow "
            "does not survive a fork; load the model in each worker, as docs/serving.md shows for gunicorn and Celery"
        )


def _name_of(recording: Source | np.ndarray) -> str:
    return str(recording) if isinstance(recording, str | os.PathLike) else "recording"


def _waveform(recording: Source | np.ndarray, rate_hz: int | None) -> np.ndarray:
    if not isinstance(recording, np.ndarray | list | tuple):
        return read_waveform(recording)
    if rate_hz is None:
        raise UserError("rate_hz: expected the sampling rate of the array in Hz. Received: rate_hz=None")
    return to_waveform(recording, rate_hz)
