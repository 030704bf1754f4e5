"""Cut a long recording at its pauses into utterances, and name the emotion of each.

Times are seconds of the original recording.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ser_tf.audio.vad import voiced_samples
from ser_tf.config import SAMPLE_RATE_HZ, VadConfig
from ser_tf.errors import printable
from ser_tf.runs.files import write_csv, write_json

if TYPE_CHECKING:  # the server cuts without TensorFlow
    from ser_tf.serving.abstention import Abstention
    from ser_tf.serving.recognition import AnyRecogniser, Prediction

PAUSE_SECONDS = 0.3
"""Silence that ends an utterance. Shorter silences are part of speech: stop consonants, breath within a phrase."""
LONGEST_SECONDS = 11.0
"""Longer utterances are cut at their longest pause. Labelled podcast speech has the same limit (MSP-Podcast, Lotfian
and Busso 2019), and the emotion may change over a longer stretch."""
MARGIN_SECONDS = 0.15
"""Silence that an utterance keeps on each side: half of the shortest pause, so that two utterances share none."""


@dataclass(frozen=True)
class Segment:
    """An utterance of a long recording.

    Attributes:
        start_seconds: start of its speech.
        end_seconds: end of its speech.
        prediction: its emotion.
        abstained: whether its probability is below the threshold; None without a threshold.
    """

    start_seconds: float
    end_seconds: float
    prediction: "Prediction"
    abstained: bool | None


@dataclass(frozen=True)
class Cuts:
    """The utterances of a recording, in samples.

    Attributes:
        utterances: first sample, and end after the last.
        too_short: the same, of those with too little speech to name.
    """

    utterances: list[tuple[int, int]]
    too_short: list[tuple[int, int]]


@dataclass(frozen=True)
class Timeline:
    """The emotions of a long recording over time.

    Attributes:
        name: name of the recording.
        emotions: all emotions, in label order.
        seconds: length of the recording.
        segments: its utterances, in order.
        too_short: start and end, in seconds, of utterances too short to name.
        abstention: the threshold, if there is one.
    """

    name: str
    emotions: tuple[str, ...]
    seconds: float
    segments: list[Segment]
    too_short: list[tuple[float, float]]
    abstention: "Abstention | None" = None

    @classmethod
    def of(
        cls,
        name: str,
        emotions: tuple[str, ...],
        samples: np.ndarray,
        cuts: Cuts,
        segments: list[Segment],
        abstention: "Abstention | None" = None,
    ) -> "Timeline":
        """Combine the results of `cut` and `name_segments` for samples int16 [N] at 16 kHz."""
        too_short = [(begin / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ) for begin, end in cuts.too_short]
        return cls(name, emotions, len(samples) / SAMPLE_RATE_HZ, segments, too_short, abstention)


def cut(samples: np.ndarray, config: VadConfig) -> Cuts:
    """Cut a recording into utterances of bounded length.

    Args:
        samples: int16 [N] at 16 kHz.
        config: the detector, and the minimum of speech to name.
    """
    is_voiced = voiced_samples(samples, config)
    edges = np.flatnonzero(np.diff(np.pad(is_voiced.astype(np.int8), 1)))
    runs = edges.reshape(-1, 2)  # [runs, 2]: begin, end
    shortest = config.minimum_speech_seconds * SAMPLE_RATE_HZ
    pauses = runs[1:, 0] - runs[:-1, 1]
    cuts = Cuts([], [])
    for phrase in np.split(runs, np.flatnonzero(pauses >= PAUSE_SECONDS * SAMPLE_RATE_HZ) + 1):
        for begin, end in _bounded(phrase, shortest):
            kept = cuts.utterances if is_voiced[begin:end].sum() >= shortest else cuts.too_short
            kept.append((begin, end))
    return cuts


def name_segments(
    recogniser: "AnyRecogniser",
    samples: np.ndarray,
    cuts: Cuts,
    abstention: "Abstention | None" = None,
) -> Iterator[Segment]:
    """Name the emotion of each utterance in turn.

    Args:
        recogniser: from `ser_tf.load`.
        samples: int16 [N] at 16 kHz.
        cuts: the utterances.
        abstention: the threshold, if there is one.
    """
    margin = round(MARGIN_SECONDS * SAMPLE_RATE_HZ)
    for begin, end in cuts.utterances:
        prediction = recogniser(samples[max(begin - margin, 0) : end + margin], SAMPLE_RATE_HZ)
        abstained = None if abstention is None else abstention.abstains(prediction.probability)
        yield Segment(begin / SAMPLE_RATE_HZ, end / SAMPLE_RATE_HZ, prediction, abstained)


def _bounded(runs: np.ndarray, shortest: float) -> list[tuple[int, int]]:
    """Cut a phrase at its longest pauses until no part is too long; a part without pauses is cut into equal pieces.

    Args:
        runs: int [R, 2], begin and end of its voiced runs.
        shortest: number of samples that must remain on both sides of a pause.
    """
    longest = LONGEST_SECONDS * SAMPLE_RATE_HZ
    done: list[tuple[int, int]] = []
    waiting = [runs] if len(runs) else []
    while waiting:
        runs = waiting.pop()
        begin, end = int(runs[0, 0]), int(runs[-1, 1])
        if end - begin <= longest:
            done.append((begin, end))
            continue
        pauses = runs[1:, 0] - runs[:-1, 1]
        usable = (runs[:-1, 1] - begin >= shortest) & (end - runs[1:, 0] >= shortest)
        if usable.any():
            place = int(np.where(usable, pauses, 0).argmax()) + 1
            waiting += [runs[place:], runs[:place]]
            continue
        bounds = np.linspace(begin, end, int(np.ceil((end - begin) / longest)) + 1).round().astype(int).tolist()
        done += pairwise(bounds)
    return done


def write_timeline(timeline: Timeline, folder: Path) -> None:
    """Write `timeline.csv`, a row per utterance, and `timeline.json`, which also lists utterances too short to name.

    Without a threshold, both omit `abstained`.

    Args:
        timeline: the emotions of the recording.
        folder: folder for both files.
    """
    mark = ["abstained"] if timeline.abstention else []
    rows: list[list[Any]] = [
        ["start_seconds", "end_seconds", "emotion", "probability", *mark, "speech_seconds", *timeline.emotions]
    ]
    for segment in timeline.segments:
        named = segment.prediction
        shares = (f"{share:.6f}" for share in named.probabilities.values())
        if timeline.abstention:
            mark = [str(segment.abstained).lower()]
        times = (f"{segment.start_seconds:.2f}", f"{segment.end_seconds:.2f}")
        rows.append([*times, named.emotion, f"{named.probability:.6f}", *mark, named.speech_seconds, *shares])
    write_csv(folder / "timeline.csv", rows)
    write_json(folder / "timeline.json", {"file": printable(timeline.name), **timeline_json(timeline)})


def timeline_json(timeline: Timeline) -> dict[str, Any]:
    """The content of `timeline.json` but for the name of the recording."""
    return {
        "seconds": timeline.seconds,
        "emotions": timeline.emotions,
        "abstention": dataclasses.asdict(timeline.abstention) if timeline.abstention else None,
        "utterances": [_as_json(segment) for segment in timeline.segments],
        "too_short": [{"start_seconds": start, "end_seconds": end} for start, end in timeline.too_short],
    }


def _as_json(segment: Segment) -> dict[str, Any]:
    named = segment.prediction
    mark = {} if segment.abstained is None else {"abstained": segment.abstained}
    return {
        "start_seconds": segment.start_seconds,
        "end_seconds": segment.end_seconds,
        "emotion": named.emotion,
        "probability": named.probability,
        **mark,
        "speech_seconds": named.speech_seconds,
        "probabilities": named.probabilities,
    }
