"""Scores, folds, speakers and configurations as the text of a cell or a sentence."""

import dataclasses
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ser_tf.config import PRESETS, Config
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.report.figures import Interval
from ser_tf.statistics.scores import Estimate, Spread, points

LONGEST_NUMBER = 10
"""Digits; a longer name is not shortened to a range."""


def corpus_name(corpus: str) -> str:
    """The corpus, or joined corpora, as people write them."""
    written = {kind.name: kind.written for kind in KNOWN_CORPORA}
    return " + ".join(written.get(name, name) for name in corpus.split("+"))


def speakers_in_words(speakers: Sequence[str]) -> str:
    """Names without their corpus; numbers in ranges, as in "1-18, 22"."""
    names = [speaker.partition(":")[2] or speaker for speaker in speakers]
    if not all(name.isdecimal() and len(name) < LONGEST_NUMBER for name in names):
        return ", ".join(names)
    parts = []
    numbers = sorted(int(name) for name in names)
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        inside = [number for _, number in run]
        parts.append(f"{inside[0]}-{inside[-1]}" if len(inside) > 2 else ", ".join(map(str, inside)))
    return ", ".join(parts)


def numbers_in_words(folds: Sequence[int]) -> str:
    """As in "1-3, 5"."""
    return speakers_in_words([str(fold) for fold in folds])


def folds_in_words(folds: Sequence[int]) -> str:
    """As in "fold 2" or "folds 1-3, 5"."""
    return f"fold{'s' * (len(folds) != 1)} {numbers_in_words(folds)}"


def percent(estimate: Estimate) -> Interval:
    """Value and ends in percent, for a drawing; 0 where there is no value."""
    low, high = (None if end is None else 100 * end for end in (estimate.low, estimate.high))
    return 100 * (estimate.value or 0.0), low, high


def spread_cells(spread: Spread) -> list[str]:
    """Mean, minimum, maximum and standard deviation in percent."""
    deviation = "-" if spread.standard_deviation is None else points(spread.standard_deviation)
    return [points(spread.mean), points(spread.minimum), points(spread.maximum), deviation]


def preset_in_words(config: Config) -> str:
    """The nearest preset and the differences from it, except seed and ghost clusters, set by run and strategy.

    Parameters of an augmentation that is off make no difference.
    """
    differences = {name: _differences(config, preset) for name, preset in PRESETS.items()}
    nearest = min(differences, key=lambda name: len(differences[name]))
    changes = ", ".join(differences[nearest])
    return f"{nearest}; {changes}" if changes else nearest


def _differences(config: Config, preset: Config) -> list[str]:
    ours, theirs = _flat(config), _flat(preset)
    off = not config.augmentation.is_on
    changes = [
        f"{key} {value}"
        for key, value in ours.items()
        if value != theirs[key] and not (off and key.startswith("augmentation."))
    ]
    return ["no augmentation"] * (off and preset.augmentation.is_on) + changes


def _flat(config: Config) -> dict[str, Any]:
    parts = dataclasses.asdict(config)
    return {
        f"{part}.{name}": value
        for part, values in parts.items()
        for name, value in values.items()
        if (part, name) not in {("training", "seed"), ("network", "ghost_clusters")}
    }
