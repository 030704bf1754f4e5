"""A recogniser without a network, and `ser-tf` with it in place of a model: no TensorFlow, answers at once.

The loudness tells the emotion, so that every test knows the answer.
"""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ser_tf.audio.waveform import to_waveform

EMOTIONS = ("calm", "happy", "angry")


@dataclass(frozen=True)
class StandInPrediction:
    """With all public attributes of a `Prediction`."""

    emotion: str
    probability: float
    probabilities: dict[str, float]
    speech_seconds: float
    embedding: np.ndarray = field(repr=False, compare=False)
    ghost_share: np.ndarray = field(repr=False, compare=False)


@dataclass(frozen=True)
class Threshold:
    """As far as an `Abstention` is needed."""

    threshold: float

    def abstains(self, probability: float) -> bool:
        return probability < self.threshold

    def __str__(self) -> str:
        return f"abstains below a probability of {self.threshold}"


class StandIn:
    """Probability of "angry" is the largest sample; the rest is shared 3 to 1 by "calm" and "happy"."""

    emotions = EMOTIONS

    def __init__(self, seconds: float = 0) -> None:
        self._seconds = seconds

    def __call__(self, samples: np.ndarray, rate_hz: int) -> StandInPrediction:
        waveform = to_waveform(samples, rate_hz)
        time.sleep(self._seconds)
        loudness = float(np.abs(waveform).max())
        shares = dict(zip(EMOTIONS, (0.75 * (1 - loudness), 0.25 * (1 - loudness), loudness), strict=True))
        emotion = max(shares, key=lambda name: shares[name])
        descriptors = 1 + len(waveform) // 16_000
        seconds = len(waveform) / 16_000
        return StandInPrediction(
            emotion,
            shares[emotion],
            shares,
            seconds,
            np.full(4, 0.5, np.float32),
            np.full(descriptors, 0.25, np.float32),
        )


def main() -> None:
    """`python tests/stand_in.py serve SECONDS`: each recording takes that long."""
    from ser_tf.cli import door
    from ser_tf.cli.serving import Serve

    def loaded(self: Serve) -> tuple[Any, Any]:
        return StandIn(float(self.model or 0)), None if self.risk is None else Threshold(self.risk)

    Serve._loaded = loaded  # type: ignore[method-assign]
    door.main()


if __name__ == "__main__":
    main()
