"""Where a pre-training runs: on one device, on several of one host, or on several hosts that share a file system.

Several hosts start the same command; `TF_CONFIG`, TensorFlow's own, tells each who they are. Each computes its part of
every batch, so they learn what one host does of the same batches. Keras 3's `fit` fails there (keras issue 20585), so
the loop over the batches stands here; the step is Keras's.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from ser_tf.errors import UserError
from ser_tf.pretraining.cluster import Place
from ser_tf.pretraining.shard_reader import WHOLE, Share

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
"""What an operation over several hosts ends with when one of them is gone."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training, each with as many devices as the others.

    Attributes:
        strategy: deals each batch to all their devices.
        place: of this host among them; host 0 writes the run folder and verifies.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    place: Place = Place()  # noqa: RUF009 - a tuple

    @classmethod
    def one(cls, devices: Sequence[str]) -> "Hosts":
        """This host alone, with devices such as "GPU:0" and "GPU:1"; TensorFlow chooses where there is one or none."""
        return cls(tf.distribute.MirroredStrategy(list(devices))) if len(devices) > 1 else cls()

    @classmethod
    def join(cls, place: Place, report: Callable[[str], None]) -> "Hosts":
        """Those that `TF_CONFIG` names, as soon as all are there; or this one. TensorFlow must have done nothing yet.

        Args:
            place: what `Place.told` says.
            report: takes one line about what is waited for.

        Raises:
            UserError: the backend is not TensorFlow, or the others cannot be reached.
        """
        if place.hosts == 1:
            gpus = [*tf.config.list_logical_devices("GPU"), *tf.config.list_logical_devices("TPU")]
            return cls.one([device.name.removeprefix("/device:") for device in gpus])
        if keras.backend.backend() != "tensorflow":
            raise UserError(
                f"TF_CONFIG: expected one host with KERAS_BACKEND={keras.backend.backend()}. Received: {place.hosts}; "
                "choose KERAS_BACKEND=tensorflow"
            )
        report(f"host {place.number} of {place.hosts}: waiting for the others")
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # it waits where Python's handler would not be called
        try:
            return cls(tf.distribute.MultiWorkerMirroredStrategy(), place)
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            raise UserError(
                f"TF_CONFIG: host {place.number} cannot join the others ({str(error).splitlines()[0]}); check their "
                "names and ports"
            ) from error
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def devices(self) -> int:
        """Of all hosts together."""
        return self.strategy.num_replicas_in_sync

    @property
    def first(self) -> bool:
        """Whether this is host 0."""
        return self.place.number == 0

    @property
    def share(self) -> Share:
        """What this host computes of each batch; `MirroredStrategy` deals whole batches itself."""
        return Share(*self.place, self.devices) if self.several else WHOLE

    @property
    def several(self) -> bool:
        """Whether there is another host."""
        return self.place.hosts > 1

    def mean(self, value: float) -> float:
        """Mean of what the hosts say; each waits for all others."""
        if not self.several:
            return value
        said = self.strategy.run(lambda: tf.constant(value, tf.float32))
        return float(self.strategy.reduce("MEAN", said, axis=None))

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
        if not self.several:
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
        if not hosts.several:
            raise
        number, count = hosts.place
        raise UserError(
            f"host {number}: another of the {count} hosts is gone; see what it said, and start the same command on all "
            "of them again: the training resumes"
        ) from error
