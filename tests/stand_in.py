"""A recogniser without a network, and `ser-tf` with it in place of a model: no TensorFlow, answers at once.

The loudness tells the emotion, so that every test knows the answer.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_tf.audio.waveform import to_waveform
from ser_tf.config import Config
from ser_tf.serving.recognition import Prediction

EMOTIONS = ("calm", "happy", "angry")


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
    config = Config()

    def __init__(self, seconds: float = 0) -> None:
        self._seconds = seconds

    def __call__(self, samples: np.ndarray, rate_hz: int) -> Prediction:
        waveform = to_waveform(samples, rate_hz)
        time.sleep(self._seconds)
        loudness = float(np.abs(waveform).max())
        distribution = np.array([0.75 * (1 - loudness), 0.25 * (1 - loudness), loudness])
        shares = np.full(1 + len(waveform) // 16_000, 0.25, np.float32)
        return Prediction.of(EMOTIONS, distribution, len(waveform) / 16_000, np.full(4, 0.5, np.float32), shares)


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
