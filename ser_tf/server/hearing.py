"""A recogniser as the server uses it: the content of a file in, an answer as JSON out.

Nothing else of the server knows a recogniser. It needs `emotions`, `config`, and a call that gives a `Prediction`.
"""

import io
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_tf.audio.long_recording import read_long_sound
from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import UserError
from ser_tf.serving.segmentation import LONGEST_SECONDS, Timeline, cut, name_segments, timeline_json

if TYPE_CHECKING:
    from ser_tf.serving.abstention import Abstention

Run = Callable[..., Awaitable[Any]]
"""Calls a function with arguments in a worker thread."""
RECORDING = "recording"
"""What messages call a recording that came without a name."""


class Hearing:
    """Names recordings, one step in a worker thread after the other.

    Args:
        recogniser: what `ser_tf.load` gives.
        abstention: the threshold, if there is one.

    Attributes:
        emotions: in label order.
        abstention: the threshold, if there is one.
        embedding_size: numbers of an embedding.
    """

    def __init__(self, recogniser: Any, abstention: "Abstention | None" = None) -> None:
        self._recogniser = recogniser
        self._vad = recogniser.config.vad
        self.emotions = tuple(recogniser.emotions)
        self.abstention = abstention
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE_HZ)
        self.embedding_size = len(
            recogniser(noise, SAMPLE_RATE_HZ).embedding
        )  # so the first client need not wait for this

    def read(self, content: bytes, maximum_seconds: int) -> np.ndarray:
        """The samples of a recording's file, int16 [N] at 16 kHz.

        Raises:
            UserError: it is no recording, or a longer one.
        """
        return read_long_sound(io.BytesIO(content), RECORDING, maximum_seconds)

    async def answer(self, samples: np.ndarray, run: Run) -> dict[str, Any]:
        """Name a recording, or each utterance of one that is longer than an utterance may be.

        Args:
            samples: int16 [N] at 16 kHz.
            run: what calls each step.

        Returns:
            What `ser-tf predict --format json` writes about a file, or what `--timeline` writes.

        Raises:
            UserError: the recording cannot be named.
        """
        if len(samples) <= LONGEST_SECONDS * SAMPLE_RATE_HZ:
            return await self._answer_one(samples, run)
        cuts = await run(cut, samples, self._vad)
        naming = name_segments(self._recogniser, samples, cuts, self.abstention)
        segments = []
        while (segment := await run(next, naming, None)) is not None:
            segments.append(segment)
        timeline = Timeline.of(RECORDING, self.emotions, samples, cuts, segments, self.abstention)
        return timeline_json(timeline)

    async def predict(self, samples: np.ndarray, run: Run) -> Any:
        """The `Prediction` of samples at 16 kHz, or the text of why there is none."""
        try:
            return await run(self._recogniser, samples, SAMPLE_RATE_HZ)
        except UserError as error:
            return str(error)

    async def _answer_one(self, samples: np.ndarray, run: Run) -> dict[str, Any]:
        named = await run(self._recogniser, samples, SAMPLE_RATE_HZ)
        abstained = {} if self.abstention is None else {"abstained": self.abstention.abstains(named.probability)}
        return {
            "seconds": len(samples) / SAMPLE_RATE_HZ,
            "emotion": named.emotion,
            "probability": named.probability,
            "probabilities": named.probabilities,
            "speech_seconds": named.speech_seconds,
            **abstained,
        }


def peaks(samples: np.ndarray, per_second: int) -> list[int]:
    """The loudest sample of each column of a waveform to draw, 0 to 100; 100 is the loudest of the recording.

    Args:
        samples: int16 [N] at 16 kHz.
        per_second: columns of a second.
    """
    edges = np.arange(0, len(samples), SAMPLE_RATE_HZ // per_second)
    levels = np.maximum.reduceat(np.abs(samples.astype(np.int32)), edges)
    return (levels * 100 // max(int(levels.max()), 1)).tolist()
