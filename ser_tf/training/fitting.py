"""What fine-tuning and pre-training share: schedule, optimizer, log, display, errors of a full disk or memory."""

# ruff: noqa: D102 - the docstring of a callback class describes its methods.

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from ser_tf.config import TrainingConfig
from ser_tf.errors import UserError
from ser_tf.runs.files import disk_error, write_csv
from ser_tf.runs.folder import RunFolder
from ser_tf.training.progress import Progress


def make_deterministic(seed: int) -> None:
    """Seed every generator and restrict TensorFlow to deterministic kernels."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        tf.config.experimental.enable_op_determinism()


@contextmanager
def exhaustion_explained(run: RunFolder) -> Iterator[None]:
    """Name the folder when the disk is full, and give a remedy when memory is exhausted."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(run.path)
        raise
    except tf.errors.OpError as error:
        cannot_write = disk_error(error, run.tensorboard)
        if cannot_write is not None:
            raise cannot_write from error
        if not isinstance(error, tf.errors.ResourceExhaustedError):
            raise
        raise UserError(
            "out of memory; lower training.batch_size or training.crop_seconds, or choose a smaller preset"
        ) from error


@dataclass(frozen=True)
class Schedule:
    """When training changes its learning rate, scores an epoch and stops, and which epoch is kept.

    Attributes:
        training: its parameters.
        from_weights: whether the network starts from given weights.
        batches: number per epoch.
    """

    training: TrainingConfig
    from_weights: bool
    batches: int

    @property
    def epochs(self) -> int:
        """Maximum number."""
        if self.training.schedule == "step":
            return self.training.maximum_epochs
        return math.ceil(self.training.steps_of(self.from_weights) / self.batches)

    def is_scored(self, epoch: int) -> bool:
        """Whether epoch `epoch`, from 0, is scored: every epoch with `step`, ten in all with `cosine`."""
        if self.training.schedule == "step":
            return True
        return 10 * (epoch + 1) // self.epochs > 10 * epoch // self.epochs

    def kept_epoch(self, progress: Progress) -> int:
        """Number, from 0, of the epoch kept so far: the best with `step`, the last with `cosine`; -1 before any."""
        return progress.best_epoch if self.training.schedule == "step" else len(progress.epochs) - 1

    def is_finished(self, progress: Progress) -> bool:
        """Whether all epochs are done, or `patience_epochs` passed without a better score."""
        if self.training.schedule == "step" and progress.epochs:
            waited = len(progress.epochs) - 1 - progress.best_epoch
            if waited >= self.training.patience_epochs:
                return True
        return len(progress.epochs) >= self.epochs

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """With `step`, a callback that sets the learning rate of each epoch."""
        training = self.training
        if training.schedule == "cosine":
            return []
        first = training.learning_rate_of(self.from_weights)
        factor, epochs = training.learning_rate_factor, training.learning_rate_epochs
        return [keras.callbacks.LearningRateScheduler(lambda epoch: first * factor ** (epoch // epochs))]


def optimizer_of(training: TrainingConfig, *, from_weights: bool) -> keras.optimizers.Optimizer:
    """Adam, or AdamW if there is weight decay; with `cosine`, its learning rate is a schedule."""
    rate: Any = training.learning_rate_of(from_weights)
    if training.schedule == "cosine":
        steps = training.steps_of(from_weights)
        warm_up = min(training.warm_up_steps, steps - 1)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warm_up else rate,
            decay_steps=steps - warm_up,
            warmup_target=rate if warm_up else None,
            warmup_steps=warm_up,
        )
    average = {"use_ema": training.average_momentum > 0, "ema_momentum": training.average_momentum}
    if training.weight_decay == 0:
        return keras.optimizers.Adam(rate, **average)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay, **average)
    optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return optimizer


def write_log(run: RunFolder, progress: Progress) -> None:
    """Write all epochs to the run's CSV log, atomically."""
    names = list(progress.epochs[0])
    rows: list[list[Any]] = [["epoch", *names]]
    for index, epoch in enumerate(progress.epochs):
        rows.append([index + 1, *("" if math.isnan(epoch[name]) else epoch[name] for name in names)])
    write_csv(run.log, rows)


class Display(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with loss and score only; the log has the other metrics."""

    def __init__(self, score: str) -> None:
        super().__init__()
        self.shown = ("loss", score)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        super().on_train_batch_end(batch, self._shown(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, self._shown(logs))

    def _shown(self, logs: dict[str, float] | None) -> dict[str, float]:
        return {name: value for name, value in (logs or {}).items() if name in self.shown}
