"""What training and testing one fold needs: corpus, speakers, speech, strategy, configuration, starting weights."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import SIDES, Fold, Scheme
from ser_tf.corpora.speakers import identities
from ser_tf.pipeline import PreparedSpeech, SpeechFile, deal, prepare_speech
from ser_tf.runs.weights import layers_afresh, method_of, read_provenance, refuse_leak
from ser_tf.strategies import Strategy, configure
from ser_tf.training.fitting import Schedule
from ser_tf.training.sides import Side, refuse_shared, require_emotions, side_of, without_contradictions


@dataclass(frozen=True)
class FoldTask:
    """One fold of one strategy.

    Attributes:
        corpus: the utterances, without recordings that carry two emotions.
        scheme: where the fold comes from.
        fold: the speakers.
        prepared: the speech of every utterance, and the recordings that could not be read.
        strategy_name: S1 to S5.
        strategy: its row of the table.
        config: resolved: what the run really uses.
        weights: file the network starts from; None for random weights.
        afresh: layers that start from random values all the same: their shape differs, or it is being compared.
        protocol: further entries of `run.json` and `metrics.json`, as JSON values; empty for folds of one corpus.
    """

    corpus: Corpus
    scheme: Scheme
    fold: Fold
    prepared: PreparedSpeech
    strategy_name: str
    strategy: Strategy
    config: Config
    weights: Path | None
    afresh: tuple[str, ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        corpus: Corpus,
        scheme: Scheme,
        fold_number: int,
        strategy_name: str,
        config: Config,
        weights: Path | None,
        prepared: PreparedSpeech | None = None,
        *,
        compared: Collection[str] = (),
        protocol: Mapping[str, Any] | None = None,
    ) -> "FoldTask":
        """Prepare the speech, unless it is given, and refuse what would fail after hours of training.

        `compared` names parameters whose values a sweep compares: the layers they shape start afresh for every value.

        Raises:
            UserError: strategy, weights and fold do not go together; two sides of the fold share a speaker or a
                recording; training or validation lacks an emotion; a side has no readable recordings; or the batches
                cannot be dealt.
        """
        strategy, resolved = configure(strategy_name, config, weights=weights is not None, compared=compared)
        fold = scheme.fold(fold_number)
        afresh: tuple[str, ...] = ()
        if weights is not None:
            refuse_leak(weights, fold.validation + fold.test, {})  # before any recording is read
            afresh = layers_afresh(read_provenance(weights), resolved, weights, compared)
        prepared = prepared or prepare_speech(corpus.utterances, resolved)
        corpus, prepared = without_contradictions(corpus, prepared)
        task = cls(
            corpus, scheme, fold, prepared, strategy_name, strategy, resolved, weights, afresh, dict(protocol or {})
        )
        training, validation, test = (task.side(getattr(fold, side)) for side in SIDES)
        where = f"{corpus.root}: fold {fold_number}"
        refuse_shared({"training": training.speech, "validation": validation.speech, "test": test.speech}, where)
        if weights is not None:
            held_out = [*validation.speech, *test.speech]
            refuse_leak(weights, _names_in(held_out), {file.sample_hash: file.utterance.name for file in held_out})
        require_emotions(training, "training", corpus, where)
        require_emotions(validation, "validation", corpus, where)
        deal(training.speech, resolved.training, epoch=0)  # refuses batches that cannot be dealt
        return task

    def side(self, speakers: Sequence[str]) -> Side:
        """The readable utterances of these speakers.

        Raises:
            UserError: there are none.
        """
        return side_of(self.corpus, self.prepared, speakers)

    def schedule(self) -> Schedule:
        """When training stops, and which epoch is kept."""
        training = self.config.training
        batches = -(-len(self.side(self.fold.train).labels) // training.batch_size)
        return Schedule(training, from_weights=self.weights is not None, batches=batches)

    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, except the configuration."""
        return {
            "strategy": self.strategy_name,
            "corpus": self.corpus.name,
            "polarities": dict(zip(self.corpus.emotions, self.corpus.polarities, strict=True)),
            "data_hash": self.prepared.data_hash,
            "scheme": self.scheme.name,
            "scheme_hash": self.scheme.hash,
            "fold": self.fold.number,
            "train_speakers": list(self.fold.train),
            "validation_speakers": list(self.fold.validation),
            "test_speakers": list(self.fold.test),
            "weights": self.started_from(),
            **self.corpus.composition,
            **self.protocol,
        }

    def provenance(self) -> dict[str, Any]:
        """What the weights file records: every speaker the network was trained on, and how."""
        speakers = {*self.fold.train, *_names_in(self.side(self.fold.train).speech)}
        provenance = {"strategy": self.strategy_name, "method": method_of(self.config)}
        before = self.started_from()
        if before is not None:
            speakers.update(before["speakers"])
            provenance["started_from"] = before
        return {"speakers": sorted(speakers), **provenance}

    def started_from(self) -> dict[str, Any] | None:
        """Provenance of the starting weights, with the layers that start `afresh` if there are any."""
        if self.weights is None:
            return None
        return read_provenance(self.weights) | ({"afresh": list(self.afresh)} if self.afresh else {})

    def start(self) -> str:
        """The starting weights, in words."""
        if self.weights is None:
            return "random weights"
        return f"{self.weights}, {' and '.join(self.afresh)} afresh" if self.afresh else str(self.weights)


def _names_in(speech: Sequence[SpeechFile]) -> set[str]:
    """Every name of every speaker of these recordings."""
    return {name for file in speech for name in identities(file.utterance)}
