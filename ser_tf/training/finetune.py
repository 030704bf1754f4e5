"""Fine-tune one fold, and name the emotions of its test speakers (paper, section 4.3)."""

import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ser_tf.classifier import epoch_uar, fit_softmax, fit_svm
from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import SIDES, Fold, Scheme
from ser_tf.corpora.speakers import identities
from ser_tf.errors import UserError
from ser_tf.metrics import unweighted_average_recall
from ser_tf.network.losses import EmotionTripletLoss, SmoothedCrossEntropy, TripletLoss
from ser_tf.network.se_resnet import (
    SOFTMAX_HEAD,
    embedding_network,
    precision,
    with_softmax_head,
    without_padding,
)
from ser_tf.pipeline import PreparedSpeech, SpeechFile, deal, evaluation_batches, prepare_speech, training_dataset
from ser_tf.runs.folder import WRITTEN, RunFolder
from ser_tf.runs.weights import (
    layers_afresh,
    load_weights,
    method_of,
    read_provenance,
    read_recordings,
    refuse_leak,
    save_weights,
    table_of_fates,
    take_weights,
)
from ser_tf.strategies import Strategy, configure
from ser_tf.training.fitting import (
    Display,
    Schedule,
    exhaustion_explained,
    make_deterministic,
    optimizer_of,
    write_log,
)
from ser_tf.training.monitor import CollapseMonitor, metric_monitors
from ser_tf.training.progress import Progress
from ser_tf.training.results import write_results
from ser_tf.training.sides import Side, refuse_shared, require_emotions, side_of, without_contradictions

RESULT = {
    **WRITTEN,
    **dict.fromkeys(("strategy", "start", "corpus", "scheme"), str),
    **dict.fromkeys(("fold", "best_epoch", "epochs"), int),
}
"""What `metrics.json` must hold, as `ser_tf.documents.misfit` takes it."""


@dataclass(frozen=True)
class FoldTask:
    """One fold of one strategy: all that training and testing it needs.

    Attributes:
        corpus: where the utterances come from; without recordings that it has under two emotions.
        scheme: where the fold comes from.
        fold: the speakers.
        prepared: the speech of every utterance, and the recordings that could not be read.
        strategy_name: S1 to S5.
        strategy: its row of the table.
        config: resolved: what the run really uses.
        weights: file the network starts from; None for random weights.
        afresh: layers that do not start from it, since they have another shape there or are being compared.
        protocol: what is said of a run beyond one corpus and its folds, as JSON values; empty for others.
    """

    corpus: Corpus
    scheme: Scheme
    fold: Fold
    prepared: PreparedSpeech
    strategy_name: str
    strategy: Strategy
    config: Config
    weights: Path | None
    afresh: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        corpus: Corpus,
        scheme: Scheme,
        fold_number: int,
        strategy_name: str,
        config: Config,
        weights: Path | None,
        prepared: PreparedSpeech | None = None,
        *,
        compared: Collection[str] = (),
        protocol: Mapping[str, Any] | None = None,
    ) -> "FoldTask":
        """Prepare the speech, unless it is given; what would stop the training after hours is said here.

        With `compared`, parameters whose values are being compared, the layers they shape start afresh for every value.

        Raises:
            UserError: strategy, weights and fold do not go together; two sides of the fold share a speaker or a
                recording; one of training and validation lacks an emotion, or any side readable recordings; or such
                batches cannot be dealt.
        """
        strategy, resolved = configure(strategy_name, config, weights=weights is not None, compared=compared)
        fold = scheme.fold(fold_number)
        afresh: tuple[str, ...] = ()
        if weights is not None:
            refuse_leak(weights, fold.validation + fold.test, {})  # before any recording is read
            afresh = layers_afresh(read_provenance(weights), resolved, weights, compared)
        prepared = prepared or prepare_speech(corpus.utterances, resolved)
        corpus, prepared = without_contradictions(corpus, prepared)
        task = cls(
            corpus, scheme, fold, prepared, strategy_name, strategy, resolved, weights, afresh, dict(protocol or {})
        )
        training, validation, test = (task.side(getattr(fold, side)) for side in SIDES)
        where = f"{corpus.root}: fold {fold_number}"
        refuse_shared({"training": training.speech, "validation": validation.speech, "test": test.speech}, where)
        if weights is not None:
            held_out = [*validation.speech, *test.speech]
            refuse_leak(weights, heard_speakers(held_out), {file.sample_hash: file.utterance.name for file in held_out})
        require_emotions(training, "training", corpus, where)
        require_emotions(validation, "validation", corpus, where)
        deal(training.speech, resolved.training, epoch=0)  # refuses batches that cannot be dealt
        return task

    def side(self, speakers: Sequence[str]) -> Side:
        """The readable utterances of these speakers.

        Raises:
            UserError: there are none.
        """
        return side_of(self.corpus, self.prepared, speakers)

    def schedule(self) -> Schedule:
        """When its training stops, and which epoch it keeps."""
        training = self.config.training
        batches = -(-len(self.side(self.fold.train).labels) // training.batch_size)
        return Schedule(training, from_weights=self.weights is not None, batches=batches)

    def identity(self) -> dict[str, Any]:
        """What decides the result, beside the configuration."""
        return {
            "strategy": self.strategy_name,
            "corpus": self.corpus.name,
            "polarities": dict(zip(self.corpus.emotions, self.corpus.polarities, strict=True)),
            "data_hash": self.prepared.data_hash,
            "scheme": self.scheme.name,
            "scheme_hash": self.scheme.hash,
            "fold": self.fold.number,
            "train_speakers": list(self.fold.train),
            "validation_speakers": list(self.fold.validation),
            "test_speakers": list(self.fold.test),
            "weights": self.started_from(),
            **self.protocol,
        }

    def provenance(self) -> dict[str, Any]:
        """What the file of weights says: whom the network has heard, and how it was trained."""
        speakers = {*self.fold.train, *heard_speakers(self.side(self.fold.train).speech)}
        provenance = {"strategy": self.strategy_name, "method": method_of(self.config)}
        before = self.started_from()
        if before is not None:
            speakers.update(before["speakers"])
            provenance["started_from"] = before
        return {"speakers": sorted(speakers), **provenance}

    def started_from(self) -> dict[str, Any] | None:
        """Provenance of the weights it starts from, and `afresh`, the layers that do not, where there are such."""
        if self.weights is None:
            return None
        return read_provenance(self.weights) | ({"afresh": list(self.afresh)} if self.afresh else {})

    def start(self) -> str:
        """What it starts from, in words."""
        if self.weights is None:
            return "random weights"
        return f"{self.weights}, {' and '.join(self.afresh)} afresh" if self.afresh else str(self.weights)


class FoldNetwork:
    """The networks of one strategy: they share their layers, and serve one fold and seed after another.

    Attributes:
        embedding: spectrogram -> embedding and ghost share.
        trained: spectrogram -> the outputs that have a loss; compiled, and for batches without padding.
        features: spectrogram -> embedding, and logits where there is a softmax head.
    """

    def __init__(self, task: FoldTask) -> None:
        config = task.config
        make_deterministic(config.training.seed)
        with precision(config.training.precision):
            self._build(task)
        self._initial = {config.training.seed: [keras.ops.convert_to_numpy(value).copy() for value in self.state()]}

    def reset(self, task: FoldTask) -> None:
        """Give every variable that training changes the value it has in a network built for this task."""
        seed = task.config.training.seed
        if seed not in self._initial:
            self._initial[seed] = FoldNetwork(task)._initial[seed]
        for variable, value in zip(self.state(), self._initial[seed], strict=True):
            variable.assign(value)

    def _build(self, task: FoldTask) -> None:
        config, strategy = task.config, task.strategy
        self.embedding = embedding_network(config.network, config.spectrogram.bins)
        self.features, self.head = self.embedding, None
        if not strategy.metric or config.loss.softmax_weight > 0:
            self.features = with_softmax_head(self.embedding, len(task.corpus.emotions), config.network.head_units)
            self.head = self.features.get_layer(SOFTMAX_HEAD)
        self.loss = None
        losses: dict[str, keras.losses.Loss] = {}
        weights: dict[str, float] = {}
        if strategy.metric:
            self.loss = _metric_loss(task)
            losses["embedding"], weights["embedding"] = self.loss, 1.0
        if self.head is not None:
            losses["logits"] = SmoothedCrossEntropy(config.training.label_smoothing)
            weights["logits"] = config.loss.softmax_weight if strategy.metric else 1.0
        unpadded = without_padding(self.features)
        self.trained = keras.Model(unpadded.inputs, {name: unpadded.output[name] for name in losses})
        self.trained.compile(
            optimizer=optimizer_of(config.training, from_weights=task.weights is not None),
            loss=losses,
            loss_weights=weights,
            metrics={"embedding": metric_monitors(self.loss)} if self.loss is not None else None,
            jit_compile=keras.backend.backend() != "tensorflow",  # XLA is slower on a CPU
        )
        self.trained.optimizer.build(self.trained.trainable_variables)

    def state(self) -> list[keras.Variable]:
        """Every variable that training changes."""
        return [*self.trained.variables, *self.trained.optimizer.variables]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the trained weights are their moving averages, where the optimizer keeps such."""
        optimizer, variables = self.trained.optimizer, self.trained.trainable_variables
        if not optimizer.use_ema:
            yield
            return
        latest = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
        optimizer.finalize_variable_values(variables)
        try:
            yield
        finally:
            for variable, value in zip(variables, latest, strict=True):
                variable.assign(value)

    def describe(self, speech: Sequence[SpeechFile], config: Config) -> dict[str, np.ndarray]:
        """Embeddings [N, K*D], and logits [N, C] where there is a softmax head, in the order of `speech`."""
        names = [name for name in self.features.output if name != "ghost_share"]
        outputs, places = [], []
        for inputs, of_batch in evaluation_batches(speech, config):
            outputs.append(self.features.predict_on_batch(inputs))
            places.append(of_batch)
        _, first = np.unique(np.concatenate(places), return_index=True)
        return {name: np.concatenate([batch[name] for batch in outputs])[first] for name in names}


def finetune(
    task: FoldTask, run: RunFolder, report: Callable[[str], None], network: FoldNetwork | None = None
) -> dict[str, Any]:
    """Train the fold, or resume it, or find it finished; then test it.

    Args:
        task: the fold.
        run: its folder; a finished one is left as it is.
        report: takes one line about what goes on.
        network: one that served another fold or seed of the same strategy, which saves compiling anew.

    Returns:
        What `metrics.json` holds.
    """
    with run.alone(), exhaustion_explained(run):
        if run.finished:
            run.begin(task.identity(), task.config)
            return run.result(report, RESULT)
        network, progress = train_fold(task, run, report, network)
        return test_fold(task, run, network, progress, report)


def train_fold(
    task: FoldTask, run: RunFolder, report: Callable[[str], None], network: FoldNetwork | None = None
) -> tuple[FoldNetwork, Progress]:
    """Train on the fold's training speakers to the end of the schedule.

    Returns:
        The network with the weights that the schedule keeps, and all epochs.

    Raises:
        UserError: the weights or the saved state do not fit the network, or the loss needs to know more of the corpus.
    """
    training, validation = task.side(task.fold.train), task.side(task.fold.validation)
    schedule = task.schedule()
    network = network or FoldNetwork(task)
    network.reset(task)
    make_deterministic(task.config.training.seed)
    if task.weights is not None:
        fates = take_weights(network.embedding, task.weights, task.afresh)
        report(f"weights from {task.weights}:\n{table_of_fates(fates)}")
    run.begin(task.identity(), task.config)  # not earlier: what is refused leaves no folder behind
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
            shuffle=False,  # it has its own order
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
    """Fit the classifier on training and validation speakers, and judge it once on the test speakers."""
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


def heard_speakers(speech: Sequence[SpeechFile]) -> set[str]:
    """Every name that the speakers of these recordings go by."""
    return {name for file in speech for name in identities(file.utterance)}


class _EpochEnd(keras.callbacks.Callback):
    """Scores the epoch on the validation speakers, keeps the weights, saves the state, stops in time."""

    def __init__(
        self, task: FoldTask, run: RunFolder, network: FoldNetwork, progress: Progress, training: Side, validation: Side
    ) -> None:
        super().__init__()
        self.task, self.run, self.network, self.progress = task, run, network, progress
        self.training, self.validation = training, validation
        self.schedule = task.schedule()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = float(self.network.trained.optimizer.learning_rate)
        with self.network.averaged():
            is_scored = self.schedule.is_scored(epoch)
            logs["validation_uar"] = self._validation_uar() if is_scored else math.nan
            self.progress.epochs.append({name: float(value) for name, value in logs.items()})
            if is_scored and self.schedule.kept_epoch(self.progress) == epoch:
                self._save_weights()
        write_log(self.run, self.progress)
        self.progress.save(self.run.state, self.network.state())  # last: what stands before it is written again
        self.model.stop_training = self.schedule.is_finished(self.progress)

    def _save_weights(self) -> None:
        provenance = self.task.provenance()
        recordings = np.array([file.sample_hash for file in self.training.speech], np.uint64)
        heard = read_recordings(self.task.weights) if self.task.weights is not None else None
        recordings = recordings if heard is None else np.union1d(recordings, heard)
        save_weights(self.network.embedding, self.run.weights, provenance, recordings)
        if self.network.head is not None:
            save_weights(self.network.head, self.run.head_weights, provenance, recordings)

    def _validation_uar(self) -> float:
        features = self.network.describe(self.validation.speech, self.task.config)
        if self.task.strategy.metric:
            training = self.network.describe(self.training.speech, self.task.config)["embedding"]
            return epoch_uar(training, self.training.labels, features["embedding"], self.validation.labels)
        return unweighted_average_recall(self.validation.labels, features["logits"].argmax(axis=1))


def _metric_loss(task: FoldTask) -> TripletLoss | EmotionTripletLoss:
    loss = task.config.loss
    if task.strategy.loss == "triplet":
        return TripletLoss(margin=loss.alpha, mining=loss.mining)
    unknown = [
        emotion for emotion, polarity in zip(task.corpus.emotions, task.corpus.polarities, strict=True) if not polarity
    ]
    if unknown:
        raise UserError(
            f"{task.corpus.root}: the emotion triplet loss needs the polarity of {', '.join(unknown)}; "
            "add a column 'polarity' (negative, positive or neutral) to the table"
        )
    return EmotionTripletLoss(
        task.corpus.polarities, alpha=loss.alpha, beta=loss.beta, mining=loss.mining, neutral=loss.neutral
    )
