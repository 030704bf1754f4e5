"""Name the emotion of a recording with a finished run or its SavedModel, in TensorFlow; the corpus is not needed."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ser_tf.audio.vad import remove_silence
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
from ser_tf.serving.export_folder import CONFIG, LABELS
from ser_tf.serving.recognition import AnyRecogniser, Prediction, refuse_fork


class Recogniser(AnyRecogniser):
    """A finished run, ready to name emotions, in Keras.

    Example:
        >>> recogniser = ser_tf.load("runs/mine")  # doctest: +SKIP
        >>> recogniser("clip.wav").emotion  # doctest: +SKIP
        'happy'
    """

    def __init__(
        self,
        config: Config,
        embedding: keras.Model,
        features: keras.Model,
        classifier: Classifier,
        name: str = "in memory",
    ) -> None:
        super().__init__(name, classifier.emotions, config)
        self.embedding = embedding
        self.features = features
        self.classifier = classifier

    def of_waveforms(self, waveforms: Iterable[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        """Waveform -> speech -> spectrogram -> embedding -> emotion, one recording at a time."""
        for name, waveform in waveforms:
            speech = remove_silence(waveform, self.config.vad, name)
            inputs = inputs_of(speech.waveform, self.config)
            probabilities, outputs = self.outputs_of(inputs)
            descriptors = descriptor_count(int(inputs["frames"][0]), self.config.network)
            yield Prediction.of(
                self.emotions,
                probabilities[0],
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
        refuse_fork(self._process)
        outputs = {name: np.asarray(value) for name, value in self.features.predict_on_batch(inputs).items()}
        used = "logits" if self.classifier.svm is None else "embedding"
        return self.classifier.probabilities(outputs[used]), outputs


class ExportedRecogniser(AnyRecogniser):
    """A SavedModel written by `ser-tf export`, used like a `Recogniser`.

    Raises:
        UserError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            emotions = (path / "assets" / LABELS).read_text(encoding="utf-8").splitlines()
            super().__init__(str(path), emotions, Config.load(path / "assets" / CONFIG))
            self._saved = tf.saved_model.load(str(path))
            self._answers = self._saved.signatures["serving_default"]
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UserError(f"{path}: expected a version written by ser-tf export; {reason}; export again") from error

    def of_waveforms(self, waveforms: Iterable[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        """Like `Recogniser.of_waveforms`; the SavedModel computes every step after the waveform."""
        for name, waveform in waveforms:
            rows = self._answers(waveform=tf.constant(waveform[None]))
            answer = {output: row[0].numpy() for output, row in rows.items()}
            if answer["problem"]:
                raise UserError(f"{name}: {answer['problem'].decode()}")
            yield Prediction.of(
                self.emotions,
                answer["probabilities"],
                round(float(answer["speech_seconds"]) * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ,
                answer["embedding"],
                answer["ghost_share"],
            )


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
    return Recogniser(config, embedding, features, classifier, str(run))
