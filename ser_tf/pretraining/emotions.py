"""Pre-train on the emotions of other corpora: one softmax network over the emotions that any of them has.

It trains as a fold does. A few speakers of each corpus are the validation side, all others the training side. Nothing
is chosen on the held-out speakers, and they do not count as trained on.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import softmax

from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.folds import Fold, Scheme
from ser_tf.corpora.joined import joined
from ser_tf.metrics import score
from ser_tf.pipeline import PreparedSpeech, SpeechFile, deal, prepare_speech
from ser_tf.pretraining.trained_on import corpora_trained_on, excluded_speakers
from ser_tf.runs.files import write_csv
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.predictions import FIRST_COLUMNS
from ser_tf.runs.weights import method_of, save_network
from ser_tf.strategies import Strategy
from ser_tf.training.finetune import train_fold
from ser_tf.training.fitting import exhaustion_explained
from ser_tf.training.fold_task import FoldTask
from ser_tf.training.sides import Side, refuse_shared, require_emotions, without_contradictions

NAME = "emotions"
HELD_OUT = 0.08
"""Share of held-out speakers per corpus; at least one speaker."""
RESULT = {"held_out": {str: {"utterances": int, "uar": float, "wa": float}}, "epochs": int}
"""Required shape of `metrics.json`, for `ser_tf.documents.misfit`."""


@dataclass(frozen=True)
class EmotionTask(FoldTask):
    """A fold over several corpora, without a test side."""

    @classmethod
    def of(cls, corpora: Sequence[Corpus], config: Config, exclude_speakers: Sequence[str] = ()) -> "EmotionTask":
        """Join the corpora and choose the held-out speakers.

        Args:
            corpora: with labelled emotions.
            config: its batches take equally many recordings of each corpus.
            exclude_speakers: speakers to leave out, as "ravdess:12", or "ravdess:*" for a whole corpus.

        Raises:
            UserError: the corpora do not go together; an excluded speaker does not exist; too little is left; or a
                speaker or a recording is in two corpora or on two sides (trained on, held out, excluded).
        """
        whole = joined(corpora)
        apart = excluded_speakers(whole.speakers, exclude_speakers)
        whole, prepared = without_contradictions(whole, prepare_speech(whole.utterances, config))
        corpus = replace(whole, utterances=tuple(each for each in whole.utterances if each.speaker not in apart))
        config = replace(config, training=replace(config.training, batches="corpora"))
        held_out = tuple(speaker for of_corpus in _speakers_of_each(corpus).values() for speaker in _chosen(of_corpus))
        fold = Fold(
            number=1,
            train=tuple(speaker for speaker in corpus.speakers if speaker not in held_out),
            validation=held_out,
            test=(),
        )
        scheme = Scheme(
            name="held-out speakers",
            corpus=corpus.name,
            folds=(fold,),
            notes=(),
            speakers=corpus.speakers,
            missing_speakers=(),
        )
        task = cls(
            corpus=corpus,
            scheme=scheme,
            fold=fold,
            prepared=PreparedSpeech(
                items=tuple(item for item in prepared.items if item.utterance.speaker not in apart),
                failures=tuple(failure for failure in prepared.failures if failure[0].speaker not in apart),
            ),
            strategy_name=NAME,
            strategy=Strategy(pretrained=False, ghosts=config.network.ghost_clusters > 0, loss="softmax"),
            config=config,
            weights=None,
        )
        sides: dict[str, list[SpeechFile]] = {}
        for item in prepared.items:
            of_corpus, speaker = item.utterance.speaker.partition(":")[0], item.utterance.speaker
            side = "excluded" if speaker in apart else "held out" if speaker in held_out else "trained on"
            sides.setdefault(f"{of_corpus}, {side}", []).append(item)
        refuse_shared(sides, str(corpus.root))
        training = task.side(fold.train)
        require_emotions(training, "training", corpus, str(corpus.root))
        deal(training.speech, config.training, epoch=0)  # refuses batches that cannot be dealt
        return task

    def corpora(self) -> dict[str, dict[str, Any]]:
        """Name of each corpus -> licence, and number of speakers and recordings trained on."""
        training = self.side(self.fold.train).speech
        return corpora_trained_on(Counter(item.utterance.speaker for item in training))

    def provenance(self) -> dict[str, Any]:
        """What the weights file records."""
        return {
            "speakers": super().provenance()["speakers"],
            "corpora": self.corpora(),
            "data_hash": self.prepared.data_hash,
            "pretraining": {"task": NAME, "emotions": list(self.corpus.emotions)},
            "configuration": dataclasses.asdict(self.config),
            "method": method_of(self.config),
        }


def pretrain_emotions(task: EmotionTask, run: RunFolder, report: Callable[[str], None]) -> dict[str, Any]:
    """Train, then score the held-out speakers of each corpus. An interrupted run is resumed.

    Args:
        task: what to train on.
        run: its folder; a finished run is left as it is.
        report: receives progress messages, one line each.

    Returns:
        The content of `metrics.json`.
    """
    with run.alone(), exhaustion_explained(run):
        if run.finished:
            run.begin(task.identity(), task.config)
            return run.result(report, RESULT)
        network, progress = train_fold(task, run, report)
        save_network(network.embedding, run.network)
        side = task.side(task.fold.validation)
        probabilities = softmax(network.describe(side.speech, task.config)["logits"].astype("float64"), axis=1)
        _write_predictions(run, task, side, probabilities)
        corpus_of = np.array([item.utterance.speaker.partition(":")[0] for item in side.speech])
        held_out = {
            corpus: dataclasses.asdict(score(side.labels[of_corpus], probabilities[of_corpus], task.corpus.emotions))
            for corpus in sorted({*corpus_of})
            if (of_corpus := corpus_of == corpus).any()
        }
        result = {
            "task": NAME,
            "corpora": task.corpora(),
            "emotions": list(task.corpus.emotions),
            "held_out_speakers": list(task.fold.validation),
            "held_out": held_out,
            "seed": task.config.training.seed,
            "best_epoch": task.schedule().kept_epoch(progress) + 1,
            "epochs": len(progress.epochs),
            "excluded": {exclusion.name: exclusion.reason for exclusion in task.corpus.exclusions},
            "unreadable": {utterance.name: reason for utterance, reason in task.prepared.failures},
        }
        run.finish(result)
        return result


def _speakers_of_each(corpus: Corpus) -> dict[str, list[str]]:
    speakers: dict[str, list[str]] = {}
    for speaker in corpus.speakers:
        speakers.setdefault(speaker.partition(":")[0], []).append(speaker)
    return speakers


def _chosen(speakers: Sequence[str]) -> list[str]:
    """The held-out speakers of a corpus, by a hash of their names: the same on every machine."""
    ordered = sorted(speakers, key=lambda speaker: hashlib.blake2b(speaker.encode()).digest())
    return sorted(ordered[: max(1, round(HELD_OUT * len(speakers)))])


def _write_predictions(run: RunFolder, task: EmotionTask, side: Side, probabilities: np.ndarray) -> None:
    emotions = task.corpus.emotions
    rows: list[list[Any]] = [[*FIRST_COLUMNS, *emotions]]
    for item, row in zip(side.speech, probabilities, strict=True):
        who = item.utterance
        shares = (f"{share:.6f}" for share in row)
        rows.append(["held out", who.name, who.speaker, who.emotion, emotions[int(row.argmax())], *shares])
    write_csv(run.predictions, rows)
