"""Where pre-training runs: on one device, on several of one host, or on several hosts that share a file system.

All hosts start the same command; TensorFlow's `TF_CONFIG` tells each its place. Each computes its part of every batch,
so together they train as one host would on the same batches. Keras 3's `fit` fails on several hosts (keras issue
20585): there the loop over the batches is this module's, and the training step is Keras's.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import keras
import tensorflow as tf

from ser_tf.errors import UserError, first_line
from ser_tf.pretraining.cluster import Place
from ser_tf.pretraining.shard_reader import WHOLE, Share

LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
)
"""How an operation across hosts fails when a host is gone."""


@dataclass(frozen=True)
class Hosts:
    """The hosts of a training, all with the same number of devices.

    Attributes:
        strategy: splits each batch over all devices.
        place: this host's place; host 0 writes the run folder and verifies.
    """

    strategy: tf.distribute.Strategy = field(default_factory=tf.distribute.get_strategy)
    place: Place = Place()  # noqa: RUF009 - a tuple

    @classmethod
    def one(cls, devices: Sequence[str]) -> "Hosts":
        """A single host with devices such as "GPU:0" and "GPU:1"; given one or none, TensorFlow chooses."""
        return cls(tf.distribute.MirroredStrategy(list(devices))) if len(devices) > 1 else cls()

    @classmethod
    def join(cls, place: Place, report: Callable[[str], None]) -> "Hosts":
        """Wait for the hosts that `TF_CONFIG` names, or take this one. TensorFlow must not have been used before.

        Args:
            place: the place of this host.
            report: receives progress messages, one line each.

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
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's handler is not called while TensorFlow waits
        try:
            return cls(tf.distribute.MultiWorkerMirroredStrategy(), place)
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            raise UserError(
                f"TF_CONFIG: host {place.number} cannot join the others ({first_line(error)}); check their "
                "names and ports"
            ) from error
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def devices(self) -> int:
        """Number of devices of all hosts together."""
        return self.strategy.num_replicas_in_sync

    @property
    def first(self) -> bool:
        """Whether this is host 0."""
        return self.place.number == 0

    @property
    def share(self) -> Share:
        """This host's part of each batch; `MirroredStrategy` splits whole batches itself."""
        return Share(*self.place, self.devices) if self.several else WHOLE

    @property
    def several(self) -> bool:
        """Whether there is more than one host."""
        return self.place.hosts > 1

    def mean(self, value: float) -> float:
        """Mean of the hosts' values; each host waits for all others."""
        if not self.several:
            return value
        values = self.strategy.run(lambda: tf.constant(value, tf.float32))
        return float(self.strategy.reduce("MEAN", values, axis=None))

    def wait(self) -> None:
        """Wait until all hosts have arrived here."""
        self.mean(0)

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
            batches: endless; with several hosts, only the part that `share` gives.
            epochs: numbers of the epochs to train.
            steps: batches per epoch.
            callbacks: Keras's; one may set `model.stop_training`, equally on all hosts.
            verbose: 0 shows nothing, 1 a bar, 2 one line per epoch.
        """
        if not self.several:
            model.fit(
                batches,
                initial_epoch=epochs.start,
                epochs=epochs.stop,
                steps_per_epoch=steps,
                shuffle=False,  # the batches have their own order
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
    """Give a remedy when another host is gone."""
    try:
        yield
    except LOST as error:
        if not hosts.several:
            raise
        number, count = hosts.place
        raise UserError(
            f"host {number}: another of the {count} hosts is gone; see its messages, and start the same command on all "
            "hosts again: the training resumes"
        ) from error
