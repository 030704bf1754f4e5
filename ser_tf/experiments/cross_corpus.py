"""Train on one corpus and test on another, with the emotions that both have."""

import os
from pathlib import Path
from typing import Any

from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import CROSS_CORPUS, Fold, Scheme
from ser_tf.corpora.joined import with_emotions
from ser_tf.errors import UserError
from ser_tf.training.fold_task import FoldTask


def cross_corpus_task(
    trained_on: Corpus,
    tested_on: Corpus,
    scheme: Scheme,
    fold: int,
    strategy: str,
    config: Config,
    weights: Path | None,
) -> FoldTask:
    """Training on one corpus and testing on another as a task; for arguments and errors see `join` and `FoldTask`."""
    corpus, joined, protocol = join(trained_on, tested_on, scheme)
    return FoldTask.make(corpus, joined, fold, strategy, config, weights, protocol=protocol)


def join(trained_on: Corpus, tested_on: Corpus, scheme: Scheme) -> tuple[Corpus, Scheme, dict[str, Any]]:
    """A joint corpus and folds that train and validate on one corpus and test on the other.

    Each fold validates on its validation speakers in `scheme`, trains on all other speakers of that corpus, and tests
    on every recording of the other corpus.

    Args:
        trained_on: corpus for training and validation.
        tested_on: corpus for the test.
        scheme: folds of `trained_on`.

    Returns:
        The joint corpus, its folds, and the protocol for `FoldTask.make`: its name, both corpora, and per corpus the
        numbers of utterances that are left out because the other corpus lacks their emotion.

    Raises:
        UserError: a speaker is in both corpora, or they share fewer than two emotions.
    """
    both = sorted({*trained_on.speakers} & {*tested_on.speakers})
    if both:
        raise UserError(
            f"{tested_on.root}: expected a corpus without the speakers of {trained_on.root}. Received: {len(both)} of "
            f"them, such as {both[0]}; give another corpus, or rename the speakers in your tables"
        )
    spoken = [{utterance.emotion for utterance in corpus.utterances} for corpus in (trained_on, tested_on)]
    shared = tuple(emotion for emotion in trained_on.emotions if emotion in spoken[0] & spoken[1])
    if len(shared) < 2:
        raise UserError(
            f"{tested_on.root}: expected at least two emotions of {trained_on.root}: {', '.join(trained_on.emotions)}. "
            f"Received: {', '.join(tested_on.emotions)}"
        )
    sources, targets = with_emotions((trained_on, tested_on), shared)
    polarity = dict(zip(trained_on.emotions, trained_on.polarities, strict=True))
    corpus = Corpus(
        name=f"{trained_on.name}-to-{tested_on.name}",
        root=Path(os.path.commonpath([trained_on.root.resolve(), tested_on.root.resolve()])),
        utterances=sources.utterances + targets.utterances,
        emotions=shared,
        polarities=tuple(polarity[emotion] for emotion in shared),
        exclusions=trained_on.exclusions + tested_on.exclusions,
        keep_excluded=trained_on.keep_excluded and tested_on.keep_excluded,
    )
    folds = [
        Fold(
            number=fold.number,
            train=tuple(speaker for speaker in sources.speakers if speaker not in fold.validation),
            validation=fold.validation,
            test=targets.speakers,
        )
        for fold in scheme.folds
    ]
    joined = Scheme(
        name=f"{CROSS_CORPUS}, validation of {scheme.name}",
        corpus=corpus.name,
        folds=tuple(folds),
        notes=(f"Trains on {trained_on.name}, tests on {tested_on.name}.",),
        speakers=corpus.speakers,
        missing_speakers=(),
    )
    protocol = {
        "protocol": CROSS_CORPUS,
        "trained_on": trained_on.name,
        "tested_on": tested_on.name,
        "left_out": {
            "trained_on": sources.left_out,
            "tested_on": targets.left_out,
        },
    }
    return corpus, joined, protocol
