"""The networks that one strategy trains and asks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np

from ser_tf.config import AugmentationConfig, Config
from ser_tf.errors import UserError
from ser_tf.network.losses import AnchorLoss, EmotionTripletLoss, SmoothedCrossEntropy, TripletLoss
from ser_tf.network.se_resnet import (
    SOFTMAX_HEAD,
    embedding_network,
    precision,
    with_softmax_head,
    without_padding,
)
from ser_tf.pipeline import SpeechFile, evaluation_batches, training_dataset
from ser_tf.training.fitting import make_deterministic, optimizer_of
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.monitor import metric_monitors

SETTLING_BATCHES = 30
"""They leave 0.9 ** 30 = 4 % of the statistics of training."""


class FoldNetwork:
    """The networks of one strategy. They share layers, and are reused across folds and seeds.

    Attributes:
        embedding: spectrogram -> embedding and ghost share.
        trained: spectrogram -> the outputs that have a loss; compiled, for batches without padding.
        features: spectrogram -> embedding, and logits if there is a softmax head.
        head: the softmax head, or None.
        loss: the metric loss, or None.
    """

    def __init__(self, task: FoldTask) -> None:
        config = task.config
        make_deterministic(config.training.seed)
        with precision(config.training.precision):
            self._build(task)
        self._initial = {config.training.seed: [keras.ops.convert_to_numpy(value).copy() for value in self.state()]}

    def reset(self, task: FoldTask) -> None:
        """Set every variable that training changes to its value in a network newly built for this task."""
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
            self.loss = METRIC_LOSSES[strategy.loss](task)
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
        """Within this context the weights are their moving averages, if the optimizer keeps them."""
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

    def settle(self, speech: Sequence[SpeechFile], labels: np.ndarray, config: Config) -> None:
        """Estimate the statistics of batch normalisation again, on crops without augmentation (Wu and Johnson 2021).

        Those of training lag behind the weights, and crops with augmentation differ from the recordings named later.

        Args:
            speech: the training utterances.
            labels: int [N], the class of each.
            config: as for training.
        """
        clean = training_dataset(speech, labels, replace(config, augmentation=AugmentationConfig()))
        for inputs, _ in clean.take(SETTLING_BATCHES).as_numpy_iterator():
            self.trained(inputs, training=True)

    def describe(self, speech: Sequence[SpeechFile], config: Config) -> dict[str, np.ndarray]:
        """Embeddings [N, K*D], and logits [N, C] if there is a softmax head, in the order of `speech`."""
        names = [name for name in self.features.output if name != "ghost_share"]
        outputs, places = [], []
        for inputs, of_batch in evaluation_batches(speech, config):
            outputs.append(self.features.predict_on_batch(inputs))
            places.append(of_batch)
        _, first = np.unique(np.concatenate(places), return_index=True)
        return {name: np.concatenate([batch[name] for batch in outputs])[first] for name in names}


def _triplet_loss(task: FoldTask) -> AnchorLoss:
    loss = task.config.loss
    return TripletLoss(margin=loss.alpha, mining=loss.mining)


def _emotion_triplet_loss(task: FoldTask) -> AnchorLoss:
    loss = task.config.loss
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


METRIC_LOSSES: dict[str, Callable[[FoldTask], AnchorLoss]] = {
    "triplet": _triplet_loss,
    "emotion_triplet": _emotion_triplet_loss,
}
"""Every `Strategy.loss` but softmax, and how the loss is made for a fold."""
