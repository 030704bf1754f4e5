"""Where a pre-training runs: on one device, on several of one host, or on several hosts that share a file system.

Several hosts start the same command; `TF_CONFIG`, TensorFlow's own, tells each who they are. Each computes its part of
every batch, so they learn what one host does of the same batches. Keras 3's `fit` fails there (keras issue 20585), so
the loop over the batches stands here; the step is Keras's.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from ser_tf.errors import UserError
from ser_tf.pipeline import WHOLE, Share

EXAMPLE = '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)
"""What an operation over several hosts ends with when one of them is gone."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training, each with one device or several.

    Attributes:
        strategy: deals each batch to all their devices.
        number: of this host; host 0 writes the run folder and verifies.
        count: how many there are.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    number: int = 0
    count: int = 1

    @classmethod
    def one(cls, devices: Sequence[str]) -> "Hosts":
        """This host alone, with devices such as "GPU:0" and "GPU:1"; TensorFlow chooses where there is one or none."""
        return cls(tf.distribute.MirroredStrategy(list(devices))) if len(devices) > 1 else cls()

    @classmethod
    def named(cls, report: Callable[[str], None]) -> "Hosts":
        """Those that `TF_CONFIG` names, as soon as all are there; or this one. TensorFlow must have done nothing yet.

        Args:
            report: takes one line about what is waited for.

        Raises:
            UserError: `TF_CONFIG` is damaged, or the backend is not TensorFlow.
        """
        number, count = _told(os.environ["TF_CONFIG"]) if "TF_CONFIG" in os.environ else (0, 1)
        if count == 1:
            gpus = [*tf.config.list_logical_devices("GPU"), *tf.config.list_logical_devices("TPU")]
            return cls.one([device.name.removeprefix("/device:") for device in gpus])
        if keras.backend.backend() != "tensorflow":
            raise UserError(
                f"TF_CONFIG: expected one host with KERAS_BACKEND={keras.backend.backend()}. Received: {count}; choose "
                "KERAS_BACKEND=tensorflow"
            )
        report(f"host {number} of {count}: waiting for the others")
        return cls(tf.distribute.MultiWorkerMirroredStrategy(), number, count)

    @property
    def devices(self) -> int:
        """Of all hosts together."""
        return self.strategy.num_replicas_in_sync

    @property
    def first(self) -> bool:
        """Whether this is host 0."""
        return self.number == 0

    @property
    def share(self) -> Share:
        """What this host computes of each batch; `MirroredStrategy` deals whole batches itself."""
        return Share(self.number, self.count, self.devices) if self.count > 1 else WHOLE

    def any(self, said: bool) -> bool:
        """Whether any host says so; each waits for all others."""
        if self.count == 1:
            return said
        voices = self.strategy.run(lambda: tf.constant(float(said)))
        return bool(self.strategy.reduce("SUM", voices, axis=None) > 0)

    def wait(self) -> None:
        """Go on when all hosts have come here."""
        self.any(False)

    def fit(
        self,
        model: keras.Model,
        batches: tf.data.Dataset,
        epochs: range,
        steps: int,
        callbacks: Sequence[keras.callbacks.Callback],
        verbose: int,
    ) -> None:
        """Train, as `keras.Model.fit` does.

        Args:
            model: compiled, made in the scope of the strategy.
            batches: endless; of several hosts what `share` says.
            epochs: from the first to the last.
            steps: batches of an epoch.
            callbacks: Keras's; one of them may set `model.stop_training`, on all hosts alike.
            verbose: 0 for nothing, 1 for a bar, 2 for one line an epoch.
        """
        if self.count == 1:
            model.fit(
                batches,
                initial_epoch=epochs.start,
                epochs=epochs.stop,
                steps_per_epoch=steps,
                shuffle=False,  # they have their own order
                verbose=verbose,
                callbacks=list(callbacks),
            )
            return

        @tf.function
        def step(batch: tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
            logs = self.strategy.run(model.train_step, args=(batch,))
            return {name: self.strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

        iterator = iter(self.strategy.distribute_datasets_from_function(lambda context: batches))
        calls = keras.callbacks.CallbackList(
            list(callbacks), model=model, verbose=verbose, epochs=epochs.stop, steps=steps
        )
        model.stop_training = False
        calls.on_train_begin()
        for epoch in epochs:
            model.reset_metrics()
            calls.on_epoch_begin(epoch)
            for number in range(steps):
                calls.on_train_batch_begin(number)
                logs = step(next(iterator))
                calls.on_train_batch_end(number, logs)
            calls.on_epoch_end(epoch, {name: float(value) for name, value in logs.items()})
            if model.stop_training:
                break
        calls.on_train_end()


@contextmanager
def absence_explained(hosts: Hosts) -> Iterator[None]:
    """Says what to do when another host is gone."""
    try:
        yield
    except LOST as error:
        if hosts.count == 1:
            raise
        raise UserError(
            f"host {hosts.number}: another of the {hosts.count} hosts is gone; see what it said, and start the same "
            "command on all of them again: the training resumes"
        ) from error


def _told(text: str) -> tuple[int, int]:
    """The number of this host and how many there are."""
    try:
        config = json.loads(text)
        (kind, workers), *others = config["cluster"].items()
        task = config["task"]
        if others or {kind, task["type"]} != {"worker"} or task["index"] not in range(len(workers)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"TF_CONFIG: expected such as {EXAMPLE}. Received: {text}") from error
    return task["index"], len(workers)
