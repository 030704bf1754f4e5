"""What every recogniser has in common: it takes recordings in any form and gives predictions. No TensorFlow."""

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np

from ser_tf.audio.waveform import Source, read_waveform, to_waveform
from ser_tf.config import Config
from ser_tf.errors import UserError

LONG_LIST = 20
"""Recordings in a list that shows its progress."""

Recording = Source | tuple[np.ndarray, int]
"""A path, its content, an open file, or samples with their rate in Hz."""


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

    @classmethod
    def of(
        cls,
        emotions: Sequence[str],
        distribution: np.ndarray,
        speech_seconds: float,
        embedding: np.ndarray,
        ghost_share: np.ndarray,
    ) -> "Prediction":
        """The prediction of a distribution [C] over the emotions; the first of equals wins."""
        best = int(distribution.argmax())
        shares = dict(zip(emotions, distribution.tolist(), strict=True))
        return cls(emotions[best], float(distribution[best]), shares, speech_seconds, embedding, ghost_share)


class AnyRecogniser(ABC):
    """Names the emotion of recordings; what computes it is up to the subclass.

    Example:
        >>> recogniser = ser_tf.load()  # doctest: +SKIP
        >>> recogniser("clip.wav").emotion  # doctest: +SKIP
        'happy'
        >>> [prediction.emotion for prediction in recogniser(["a.wav", (samples, 44_100)])]  # doctest: +SKIP
        ['sad', 'neutral']

    Attributes:
        name: where it comes from.
        emotions: those that it knows, in label order.
        config: of the run that it was made from.
    """

    def __init__(self, name: str, emotions: Sequence[str], config: Config) -> None:
        self.name = name
        self.emotions = tuple(emotions)
        self.config = config
        self._process = os.getpid()

    def __repr__(self) -> str:
        """Class, origin and emotions."""
        return f"<{type(self).__name__} {self.name}: {', '.join(self.emotions)}>"

    @overload
    def __call__(self, recording: list[Any]) -> list[Prediction]: ...
    @overload
    def __call__(self, recording: Recording | np.ndarray, rate_hz: int | None = None) -> Prediction: ...
    def __call__(self, recording: Any, rate_hz: int | None = None) -> Prediction | list[Prediction]:
        """Name the emotion of a recording, or of each recording in a list.

        Args:
            recording: path of a file, its content (bytes, bytearray, memoryview), an open file (BytesIO), a pair of
                samples and their rate, or a list of these; or samples [N] or [N, channels].
            rate_hz: sampling rate of samples that come without it.

        Raises:
            UserError: a recording cannot be read, is silent, too short or too long; or samples come without a rate. A
                list ends at the first such recording.
        """
        refuse_fork(self._process)
        if rate_hz is None and isinstance(recording, list):
            return list(self.of_waveforms(_read_each(recording)))
        return next(iter(self.of_waveforms([_read(recording, rate_hz, "recording")])))

    @abstractmethod
    def of_waveforms(self, waveforms: Iterable[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        """Predictions in turn for names, for messages, and waveforms, float32 [N] mono 16 kHz in [-1, 1].

        Raises:
            UserError: a waveform holds too much speech.
        """


def refuse_fork(loaded_by: int) -> None:
    """Refuse to compute in a fork of the process that loaded the model, where its threads would be missing.

    Raises:
        UserError: this is such a process.
    """
    if os.getpid() != loaded_by:
        raise UserError(
            f"this process ({os.getpid()}) was forked from the one that loaded the model ({loaded_by}), and a loaded "
            "model does not survive a fork; load the model in each worker, as docs/serving.md shows for gunicorn and "
            "Celery"
        )


def _read(recording: Any, rate_hz: int | None, name: str) -> tuple[str, np.ndarray]:
    """Name and waveform of a recording in any form."""
    if rate_hz is None and isinstance(recording, tuple) and len(recording) == 2:
        recording, rate_hz = recording
    if isinstance(recording, str | os.PathLike):
        return str(recording), read_waveform(recording)
    if rate_hz is None and isinstance(recording, np.ndarray | list | tuple):
        raise UserError(
            f"rate_hz: expected the sampling rate of the array in Hz. Received: rate_hz=None for the {name}; "
            "give it as rate_hz, or give the pair (array, rate)"
        )
    return name, read_waveform(recording, name) if rate_hz is None else to_waveform(recording, rate_hz, name)


def _read_each(recordings: Sequence[Any]) -> Iterator[tuple[str, np.ndarray]]:
    """Names and waveforms in turn, with a progress bar for a long list on a terminal."""
    listed: Iterable[Any] = recordings
    if len(recordings) >= LONG_LIST and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        listed = track(recordings, "recordings", console=Console(stderr=True))
    for place, recording in enumerate(listed):
        yield _read(recording, None, f"recordings[{place}]")
