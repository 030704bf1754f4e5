"""The utterances of each side of a fold: by the speakers of a scheme, or at random.

A random split trains on the test speakers. It measures the effect of this leak, and is marked wherever it is named.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import RANDOM_SPLIT, SIDES, SPEAKER_INDEPENDENT, Scheme
from ser_tf.errors import UserError
from ser_tf.pipeline import PreparedSpeech
from ser_tf.training.sides import Side, refuse_shared, refuse_shared_recordings, require_emotions, side_of

RANDOM_SPLIT_SEED = 0


@dataclass(frozen=True)
class Split:
    """One fold of one protocol.

    Attributes:
        protocol: SPEAKER_INDEPENDENT or RANDOM_SPLIT.
        scheme: name of the folds; RANDOM_SPLIT for a random split.
        scheme_hash: 16 hex digits that identify the folds.
        fold: counted from 1.
        sides: "train", "validation" and "test".
    """

    protocol: str
    scheme: str
    scheme_hash: str
    fold: int
    sides: Mapping[str, Side]

    def identity(self, method: str, corpus: Corpus, prepared: PreparedSpeech) -> dict[str, Any]:
        """Everything that determines a method's result on this fold, with the keys of a network's run."""
        return {
            "strategy": method if self.protocol == SPEAKER_INDEPENDENT else f"{method}, {self.protocol}",
            "protocol": self.protocol,
            "corpus": corpus.name,
            "polarities": dict(zip(corpus.emotions, corpus.polarities, strict=True)),
            "data_hash": prepared.data_hash,
            "scheme": self.scheme,
            "scheme_hash": self.scheme_hash,
            "fold": self.fold,
            **{
                f"{name}_speakers": sorted({item.utterance.speaker for item in side.speech})
                for name, side in self.sides.items()
            },
            "weights": None,
            **corpus.composition,
        }

    def folder(self, method: str) -> str:
        """Name of the method's run folder on this fold."""
        mark = "" if self.protocol == SPEAKER_INDEPENDENT else "-random-split-speaker-dependent-not-comparable"
        return f"{method}-fold{self.fold}{mark}"


def honest_splits(corpus: Corpus, scheme: Scheme, prepared: PreparedSpeech) -> list[Split]:
    """The folds of the scheme, as for the networks.

    Raises:
        UserError: two sides of a fold share a speaker or a recording, the training or validation side lacks an emotion,
            or a side has no readable recording.
    """
    splits = []
    for fold in scheme.folds:
        sides = {side: side_of(corpus, prepared, getattr(fold, side)) for side in SIDES}
        where = f"{corpus.root}: fold {fold.number}"
        refuse_shared({side: content.speech for side, content in sides.items()}, where)
        require_emotions(sides["train"], "training", corpus, where)
        require_emotions(sides["validation"], "validation", corpus, where)
        splits.append(Split(SPEAKER_INDEPENDENT, scheme.name, scheme.hash, fold.number, sides))
    return splits


def random_splits(corpus: Corpus, scheme: Scheme, prepared: PreparedSpeech) -> list[Split]:
    """As many folds as the scheme has, drawn at random from the utterances of each emotion, regardless of speaker.

    Each utterance is tested once; a fold validates on the test utterances of the next fold, cyclically.

    Raises:
        UserError: there are fewer than three folds or more than an emotion has utterances, or a recording is on two
            sides.
    """
    emotions = [item.utterance.emotion for item in prepared.items]
    count, most = len(scheme.folds), min(Counter(emotions).values())
    if not len(SIDES) <= count <= most:
        raise UserError(
            f"protocol random: expected a scheme of {len(SIDES)} to {most} folds (the rarest emotion has {most} "
            f"utterances). Received: {count} in scheme {scheme.name!r}; choose another scheme"
        )
    dealer = StratifiedKFold(count, shuffle=True, random_state=RANDOM_SPLIT_SEED)
    tests = [test for _, test in dealer.split(emotions, emotions)]
    names = [[prepared.items[place].utterance.name for place in test] for test in tests]
    split_hash = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
    splits = []
    for index, test in enumerate(tests):
        validation = tests[(index + 1) % count]
        rest = np.setdiff1d(np.arange(len(emotions)), np.concatenate([validation, test]))
        sides = {
            side: Side.of([prepared.items[place] for place in places], corpus.emotions)
            for side, places in zip(SIDES, (rest, validation, test), strict=True)
        }
        refuse_shared_recordings(
            {side: content.speech for side, content in sides.items()}, f"{corpus.root}: random fold {index + 1}"
        )
        splits.append(Split(RANDOM_SPLIT, RANDOM_SPLIT, split_hash, index + 1, sides))
    return splits
