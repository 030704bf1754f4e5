"""Fine-tune one fold and test it on its test speakers (paper, section 4.3)."""

import math
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from ser_tf.classifier import epoch_uar, fit_softmax, fit_svm
from ser_tf.metrics import unweighted_average_recall
from ser_tf.pipeline import training_dataset
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.runs.weights import load_weights, read_recordings, save_network, save_weights, table_of_fates, take_weights
from ser_tf.training.fitting import Display, exhaustion_explained, make_deterministic, write_log
from ser_tf.training.fold_network import FoldNetwork
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.monitor import CollapseMonitor
from ser_tf.training.progress import Progress
from ser_tf.training.results import write_results
from ser_tf.training.sides import Side

RESULT = {
    **WRITTEN,
    **dict.fromkeys(("strategy", "start", "corpus", "scheme"), str),
    **dict.fromkeys(("fold", "best_epoch", "epochs"), int),
}
"""Required shape of `metrics.json`, for `ser_tf.documents.misfit`."""


def finetune(
    task: FoldTask, run: RunFolder, report: Callable[[str], None], network: FoldNetwork | None = None
) -> dict[str, Any]:
    """Train the fold and test it. An interrupted run is resumed; a finished one is left as it is.

    Args:
        task: the fold.
        run: its folder.
        report: receives progress messages, one line each.
        network: one used for a different fold or seed of the same strategy; reusing it saves compilation.

    Returns:
        The content of `metrics.json`.
    """
    with run.alone(), exhaustion_explained(run):
        if run.finished:
            run.begin(task.identity(), task.config)
            return run.result(report, RESULT)
        network, progress = train_fold(task, run, report, network)
        save_network(network.embedding, run.network)
        return test_fold(task, run, network, progress, report)


def train_fold(
    task: FoldTask, run: RunFolder, report: Callable[[str], None], network: FoldNetwork | None = None
) -> tuple[FoldNetwork, Progress]:
    """Train on the fold's training speakers to the end of the schedule.

    Returns:
        The network with the weights of the epoch that the schedule keeps, and all epochs.

    Raises:
        UserError: the weights or the saved state do not fit the network, or the corpus lacks polarities that the loss
            needs.
    """
    training, validation = task.side(task.fold.train), task.side(task.fold.validation)
    schedule = task.schedule()
    network = network or FoldNetwork(task)
    network.reset(task)
    make_deterministic(task.config.training.seed)
    if task.weights is not None:
        fates = take_weights(network.embedding, task.weights, task.afresh)
        report(f"weights from {task.weights}:\n{table_of_fates(fates)}")
    run.begin(task.identity(), task.config)  # after all checks: a refused task leaves no folder
    progress = Progress()
    if run.state.is_file():
        progress = Progress.restore(run.state, network.state())
        report(f"resumed after epoch {len(progress.epochs)}")
    if not schedule.is_finished(progress):
        first = len(progress.epochs)
        callbacks: list[keras.callbacks.Callback] = [
            *schedule.callbacks(),
            _EpochEnd(task, run, network, progress, training, validation),
            keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
            Display("validation_uar"),
        ]
        if network.loss is not None:
            monitor = CollapseMonitor(network.loss)
            for number, logs in enumerate(progress.epochs):
                monitor.on_epoch_end(number, logs)
            callbacks.append(monitor)
        batches = training_dataset(training.speech, training.labels, task.config, first_epoch=first)
        network.trained.fit(
            batches.map(lambda inputs, labels: (inputs, dict.fromkeys(network.trained.output, labels))),
            initial_epoch=first,
            epochs=schedule.epochs,
            steps_per_epoch=schedule.batches,
            shuffle=False,  # the batches have their own order
            verbose=1 if sys.stdout.isatty() else 2,  # a bar, or one line per epoch
            callbacks=callbacks,
        )
    load_weights(network.embedding, run.weights)
    if network.head is not None:
        load_weights(network.head, run.head_weights)
    return network, progress


def test_fold(
    task: FoldTask, run: RunFolder, network: FoldNetwork, progress: Progress, report: Callable[[str], None]
) -> dict[str, Any]:
    """Fit the classifier on training and validation speakers, and test it once on the test speakers."""
    sides = {name: task.side(getattr(task.fold, name)) for name in ("train", "validation", "test")}
    features = {
        name: network.describe(side.speech, task.config)
        for name, side in sides.items()
        if name != "train" or task.strategy.metric
    }
    validation = sides["validation"]
    chosen: dict[str, float] = {}
    if task.strategy.metric:
        report("fitting the RBF SVM")
        classifier, chosen = fit_svm(
            features["train"]["embedding"],
            sides["train"].labels,
            features["validation"]["embedding"],
            validation.labels,
            task.corpus.emotions,
        )
    else:
        classifier = fit_softmax(features["validation"]["logits"], validation.labels, task.corpus.emotions)
    classifier.save(run.path)

    used = "embedding" if task.strategy.metric else "logits"
    probabilities = {name: classifier.probabilities(features[name][used]) for name in ("validation", "test")}
    about = {
        **{key: task.identity()[key] for key in ("strategy", "corpus", "scheme", "fold", "weights", *task.protocol)},
        **task.corpus.composition,
        "folds": len(task.scheme.folds),
        "seed": task.config.training.seed,
        "start": task.start(),
        "best_epoch": task.schedule().kept_epoch(progress) + 1,
        "epochs": len(progress.epochs),
        "svm": chosen or None,
        "inverse_temperature": classifier.inverse_temperature,
        "validation_served_for": "best epoch, " * (task.config.training.schedule == "step")
        + "temperature"
        + ", C, gamma" * task.strategy.metric,
    }
    return write_results(run, task.corpus, task.prepared, sides, probabilities, about)


class _EpochEnd(keras.callbacks.Callback):
    """Scores the epoch on the validation speakers, saves weights and state, and ends training on schedule."""

    def __init__(
        self, task: FoldTask, run: RunFolder, network: FoldNetwork, progress: Progress, training: Side, validation: Side
    ) -> None:
        super().__init__()
        self.task, self.run, self.network, self.progress = task, run, network, progress
        self.training, self.validation = training, validation
        self.schedule = task.schedule()
        self.settles = task.config.training.schedule == "cosine" or task.config.augmentation.is_on

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(self.network.trained.optimizer.learning_rate)
        with self.network.averaged():
            is_scored = self.schedule.is_scored(epoch)
            if is_scored and self.settles:
                self.network.settle(self.training.speech, self.training.labels, self.task.config)
            logs["validation_uar"] = self._validation_uar() if is_scored else math.nan
            self.progress.epochs.append({name: float(value) for name, value in logs.items()})
            if is_scored and self.schedule.kept_epoch(self.progress) == epoch:
                self._save_weights()
        write_log(self.run, self.progress)
        self.progress.save(self.run.state, self.network.state())  # last: a resumed run rewrites the files above
        self.model.stop_training = self.schedule.is_finished(self.progress)

    def _save_weights(self) -> None:
        provenance = self.task.provenance()
        recordings = np.array([file.sample_hash for file in self.training.speech], np.uint64)
        earlier = read_recordings(self.task.weights) if self.task.weights is not None else None
        recordings = recordings if earlier is None else np.union1d(recordings, earlier)
        save_weights(self.network.embedding, self.run.weights, provenance, recordings)
        if self.network.head is not None:
            save_weights(self.network.head, self.run.head_weights, provenance, recordings)

    def _validation_uar(self) -> float:
        features = self.network.describe(self.validation.speech, self.task.config)
        if self.task.strategy.metric:
            training = self.network.describe(self.training.speech, self.task.config)["embedding"]
            return epoch_uar(training, self.training.labels, features["embedding"], self.validation.labels)
        return unweighted_average_recall(self.validation.labels, features["logits"].argmax(axis=1))
