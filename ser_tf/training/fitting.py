"""What fine-tuning and pre-training share: the schedule, what is shown and logged, what runs out."""

# ruff: noqa: D102 - what Keras calls, the docstring of the class describes.

import csv
import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import keras
import tensorflow as tf

from ser_tf.config import TrainingConfig
from ser_tf.errors import UserError
from ser_tf.training.progress import Progress
from ser_tf.training.run_folder import RunFolder, write_text

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def make_deterministic(seed: int) -> None:
    """Seed every generator, and let TensorFlow use deterministic kernels only."""
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        tf.config.experimental.enable_op_determinism()


@contextmanager
def exhaustion_explained(run: RunFolder) -> Iterator[None]:
    """Says where the disk is full, and what to do when the memory is."""
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


def disk_error(error: tf.errors.OpError, place: Path) -> OSError | None:
    """What the operating system said where TensorFlow could not write; None of another error."""
    numbers = (number for number in _DISK if os.strerror(number) in str(error))
    return next((OSError(number, os.strerror(number), str(place)) for number in numbers), None)


def learning_rate(schedule: TrainingConfig) -> keras.callbacks.Callback:
    """Sets the learning rate of each epoch, a function of its number alone."""
    return keras.callbacks.LearningRateScheduler(
        lambda epoch: schedule.learning_rate * schedule.learning_rate_factor ** (epoch // schedule.learning_rate_epochs)
    )


def write_log(run: RunFolder, progress: Progress) -> None:
    """Write all epochs as CSV, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(progress.epochs[0])
    writer.writerow(["epoch", *names])
    writer.writerows([index + 1, *(epoch[name] for name in names)] for index, epoch in enumerate(progress.epochs))
    write_text(run.log, text.getvalue())


class Display(keras.callbacks.ProgbarLogger):
    """Keras's progress bar with what fits one line of a terminal; the monitors are in the log."""

    def __init__(self, score: str) -> None:
        super().__init__()
        self.shown = ("loss", score)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        super().on_train_batch_end(batch, self._shown(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, self._shown(logs))

    def _shown(self, logs: dict[str, float] | None) -> dict[str, float]:
        return {name: value for name, value in (logs or {}).items() if name in self.shown}
