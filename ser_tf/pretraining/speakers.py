"""Pre-train on speaker identity (paper, section 4.3): a network that distinguishes speakers, as a start for emotions.

Each batch is split over all accelerators of all hosts, and batch normalisation takes its statistics over the whole
batch (`ser_tf.pretraining.hosts`).
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ser_tf.config import Config, PretrainingConfig
from ser_tf.documents import read_json
from ser_tf.errors import UserError
from ser_tf.network.losses import AdditiveMarginSoftmax, SmoothedCrossEntropy
from ser_tf.network.se_resnet import embedding_network, precision, with_cosine_head, with_softmax_head
from ser_tf.pretraining.hosts import Hosts, absence_explained
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining.shard_reader import (
    WHOLE,
    Share,
    SpeakerCrops,
    damage_explained,
    gather,
    training_crops,
    whole_utterances,
)
from ser_tf.pretraining.trained_on import corpora_trained_on, excluded_speakers
from ser_tf.pretraining.trials import Trials, draw_trials, hold_out, read_trials, sexes_of
from ser_tf.pretraining.verification import VerificationScores, verification
from ser_tf.runs.files import write_csv
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.weights import load_weights, method_of, save_network, save_weights
from ser_tf.spelling import spelt_twice
from ser_tf.training.fitting import (
    Display,
    Schedule,
    exhaustion_explained,
    make_deterministic,
    optimizer_of,
    write_log,
)
from ser_tf.training.progress import VerificationProgress

TRIALS = "trials.csv"
SIDES = ("validation", "test")
"""Validation scores epochs; test is used once, at the end."""
_SCORES = {"trials": int, "eer": float, "min_dcf": {str: float}}
RESULT = {"test": _SCORES, "untrained": {"test": _SCORES}, "test_speakers": [str], "best_epoch": int, "epochs": int}
"""Required shape of `metrics.json`, for `ser_tf.documents.misfit`."""
SHARED = "give all hosts one --run on a file system that they share"


@dataclass(frozen=True)
class PretrainTask:
    """All inputs of a pre-training on speakers.

    Attributes:
        shards: of one or several corpora.
        config: spectrogram, network, schedule.
        pretraining: the loss, and the number of held-out speakers.
        excluded: speakers who are neither trained on nor verified.
        validation: trials that choose the epoch.
        test: trials used once, at the end.
        trial_list: file that `test` was read from; None if it was drawn.
    """

    shards: Shards
    config: Config
    pretraining: PretrainingConfig
    excluded: tuple[str, ...]
    validation: Trials
    test: Trials
    trial_list: Path | None

    @classmethod
    def make(
        cls,
        shards: Shards,
        config: Config,
        pretraining: PretrainingConfig,
        exclude_speakers: Sequence[str] = (),
        trial_list: Path | None = None,
    ) -> "PretrainTask":
        """Choose the held-out speakers, and refuse what would fail after hours of training.

        Args:
            shards: of one or several corpora.
            config: spectrogram, network, schedule.
            pretraining: the loss, and the number of held-out speakers.
            exclude_speakers: speakers to leave out, as "ravdess:12", or "ravdess:*" for a whole corpus.
            trial_list: test trials, in the format of VoxCeleb1's lists; all its speakers are held out.

        Raises:
            UserError: an excluded speaker does not exist, the trials cannot be made, a speaker has two spellings, a
                recording is on two sides under two names, or too few speakers are left.
        """
        if twice := spelt_twice(shards.counts):
            raise UserError(
                f"{', '.join(map(str, shards.folders))}: expected one spelling of a speaker's name. "
                f"Received: {' and '.join(twice)}; name them alike or, if they are two people, so that they differ in "
                "more than case, leading zeros and white space, and prepare the shards again"
            )
        excluded = tuple(sorted(excluded_speakers(shards.counts, exclude_speakers)))
        sex = sexes_of(shards)
        listed = read_trials(trial_list, shards) if trial_list is not None else None
        apart = {*excluded, *(listed.speakers if listed else ())}
        counts = {speaker: count for speaker, count in shards.counts.items() if speaker not in apart}
        sides = hold_out(counts, sex, pretraining.held_out, sides=1 if listed else 2)
        utterances = [each for each in shards.utterances() if any(each.speaker in side for side in sides)]
        drawn = [
            draw_trials((each for each in utterances if each.speaker in side), sex, pretraining.trials)
            for side in sides
        ]
        task = cls(shards, config, pretraining, excluded, drawn[0], listed or drawn[1], trial_list)
        task.refuse_shared_recordings()
        task.crops()  # refuses batches that cannot be filled
        return task

    @cached_property
    def held_out(self) -> tuple[str, ...]:
        """The speakers of the trials, sorted."""
        return tuple(sorted({*self.validation.speakers, *self.test.speakers}))

    @cached_property
    def trained(self) -> dict[str, int]:
        """The speakers trained on -> number of recordings."""
        apart = {*self.held_out, *self.excluded}
        return {speaker: count for speaker, count in self.shards.counts.items() if speaker not in apart}

    def crops(self, first_epoch: int = 0, share: Share = WHOLE) -> SpeakerCrops:
        """The training batches."""
        return training_crops(self.shards, self.config, {*self.held_out, *self.excluded}, first_epoch, share)

    def schedule(self) -> Schedule:
        """When training stops, and which epoch is kept."""
        return Schedule(self.config.training, from_weights=False, batches=self.crops().steps)

    def recordings(self, speakers: Iterable[str]) -> np.ndarray:
        """Sample hashes of all recordings of these speakers."""
        return self.shards.sample_hashes(speakers)

    @property
    def heard(self) -> np.ndarray:
        """Sample hashes of all recordings that are trained on or choose the epoch."""
        return self.recordings({*self.trained, *self.validation.speakers})

    def refuse_shared_recordings(self) -> None:
        """Refuse a recording that is on two sides under two names; the excluded speakers are a side too."""
        excluded = set(self.excluded) - set(self.held_out)  # a trial list may test them
        sides = (self.trained, self.validation.speakers, self.test.speakers, excluded)
        hashes = np.concatenate([np.unique(self.recordings(speakers)) for speakers in sides])
        hashes, counts = np.unique(hashes, return_counts=True)
        shared = set(hashes[counts > 1].tolist())
        if shared:
            names = sorted({each.speaker for each in self.shards.utterances() if each.sample_hash in shared})
            raise UserError(
                f"{', '.join(map(str, self.shards.folders))}: {len(shared)} recordings are on two sides (trained on, "
                f"validation, test, excluded) under two names ({', '.join(names[:4])}{', ...' * (len(names) > 4)}); "
                "give each recording once, or leave all of these speakers out with --exclude-speakers"
            )

    @cached_property
    def data_hash(self) -> str:
        """Hash of the recordings and speakers of all shards: 16 hex digits."""
        content = hashlib.blake2b(np.sort(self.recordings(self.shards.counts)).tobytes(), digest_size=8)
        content.update(json.dumps(self.shards.counts).encode())
        return content.hexdigest()

    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, except the configuration."""
        return {
            "pretraining": dataclasses.asdict(self.pretraining),
            "corpora": list(self.corpora()),
            "data_hash": self.data_hash,
            "excluded_speakers": list(self.excluded),
            "validation_speakers": list(self.validation.speakers),
            "validation_trials": self.validation.hash,
            "test_speakers": list(self.test.speakers),
            "test_trials": self.test.hash,
        }

    def corpora(self) -> dict[str, dict[str, Any]]:
        """Name of each corpus -> licence, and number of speakers and recordings trained on."""
        return corpora_trained_on(self.trained)

    def provenance(self, verified: dict[str, Any]) -> dict[str, Any]:
        """What the weights file records; the validation speakers count as trained on."""
        return {
            "speakers": sorted({*self.trained, *self.validation.speakers}),
            "corpora": self.corpora(),
            "data_hash": self.data_hash,
            "pretraining": dataclasses.asdict(self.pretraining),
            "configuration": dataclasses.asdict(self.config),
            "verification": verified,
            "method": method_of(self.config),
        }


class SpeakerNetwork:
    """The networks of one pre-training. They share layers.

    Attributes:
        embedding: spectrogram -> embedding and ghost share.
        trained: spectrogram -> `logits` for the softmax loss, or `cosines` for its form with a margin; compiled.
        head: the layer that `trained` adds to `embedding`.
    """

    def __init__(self, task: PretrainTask, hosts: Hosts) -> None:
        """Build the networks on all devices of the hosts.

        Raises:
            UserError: the batch cannot be split evenly over the devices.
        """
        config = task.config
        if config.training.batch_size % hosts.devices:
            raise UserError(
                f"batch_size: expected a multiple of {hosts.devices}, the number of accelerators of all hosts. "
                f"Received: batch_size={config.training.batch_size}; choose another, or hide accelerators with "
                "CUDA_VISIBLE_DEVICES"
            )
        make_deterministic(config.training.seed)
        with precision(config.training.precision):
            with hosts.strategy.scope():
                embedding = embedding_network(config.network, config.spectrogram.bins)
                self._build(task, embedding, synchronized=hosts.devices > 1)
            # Made inside the scope, it would compute each batch once per device.
            self.embedding = keras.Model(embedding.input, embedding.output, name=embedding.name)
        self._untrained = [keras.ops.convert_to_numpy(value).copy() for value in self.embedding.variables]
        self._utterances: dict[str, tf.data.Dataset] = {}

    def _build(self, task: PretrainTask, embedding: keras.Model, synchronized: bool) -> None:
        config, pretraining = task.config, task.pretraining
        loss: keras.losses.Loss
        if pretraining.loss == "am_softmax":
            features, output = with_cosine_head(embedding, len(task.trained)), "cosines"
            loss = AdditiveMarginSoftmax(pretraining.margin, pretraining.scale)
        else:
            features = with_softmax_head(embedding, len(task.trained), config.network.head_units)
            loss, output = SmoothedCrossEntropy(config.training.label_smoothing), "logits"
        if synchronized:
            for layer in embedding.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True
        self.head = features.layers[-1]
        self.trained = keras.Model(features.inputs, {output: features.output[output]})
        self.trained.compile(
            optimizer=optimizer_of(config.training, from_weights=False),
            loss={output: loss},
            metrics={output: [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]},
            jit_compile=keras.backend.backend() != "tensorflow",  # XLA is slower on a CPU
        )
        self.trained.optimizer.build(self.trained.trainable_variables)

    def state(self) -> list[keras.Variable]:
        """Every variable that training changes."""
        return [*self.trained.variables, *self.trained.optimizer.variables]

    def forget(self) -> None:
        """Reset the embedding network to its initial values."""
        for variable, value in zip(self.embedding.variables, self._untrained, strict=True):
            variable.assign(value)

    def batches(self, crops: SpeakerCrops) -> tf.data.Dataset:
        """Inputs, and labels by output name."""
        return crops.dataset.map(lambda inputs, labels: (inputs, dict.fromkeys(self.trained.output, labels)))

    def embed(self, task: PretrainTask, run: RunFolder, trials: Trials) -> np.ndarray:
        """Embeddings of whole utterances, float32 [U, E], in the order of `trials.utterances`."""
        wanted = [utterance.sample_hash for utterance in trials.utterances]
        if trials.hash not in self._utterances:  # the same utterances are embedded after every epoch
            self._utterances[trials.hash] = whole_utterances(run.utterances, task.config, wanted)
        embeddings: dict[int, np.ndarray] = {}
        for inputs, sample_hashes in self._utterances[trials.hash].as_numpy_iterator():
            of_batch = np.asarray(self.embedding.predict_on_batch(inputs)["embedding"])
            for sample_hash, embedding in zip(sample_hashes, of_batch, strict=True):
                embeddings[int(sample_hash, 16)] = embedding
        return np.stack([embeddings[sample_hash] for sample_hash in wanted])

    def scores(self, task: PretrainTask, run: RunFolder, trials: Trials) -> np.ndarray:
        """Cosine of each trial."""
        return trials.score(self.embed(task, run, trials))


def pretrain(
    task: PretrainTask, run: RunFolder, report: Callable[[str], None], hosts: Hosts | None = None
) -> dict[str, Any]:
    """Train, then verify the test speakers. An interrupted run is resumed; a finished one is left as it is.

    Args:
        task: what to train on and whom to verify.
        run: its folder, visible to all hosts and written by the first.
        report: receives progress messages, one line each.
        hosts: by default one device of this host.

    Returns:
        The content of `metrics.json`.
    """
    hosts = hosts or Hosts()
    with (
        run.alone() if hosts.first else nullcontext(),
        exhaustion_explained(run),
        absence_explained(hosts),
        damage_explained(task.shards, run.utterances),
    ):
        if run.finished:
            run.begin(task.identity(), task.config)
            return run.result(report, RESULT)
        network = SpeakerNetwork(task, hosts)
        if hosts.first:
            run.begin(task.identity(), task.config)  # after all checks: a refused task leaves no folder
            if not run.utterances.is_file():
                verified = {each.sample_hash for side in (task.validation, task.test) for each in side.utterances}
                report(f"copying the {len(verified)} recordings to verify")
                gather(task.shards, verified, run.utterances)
        hosts.wait()  # until host 0 has written the folder
        if not run.identity.is_file():
            raise UserError(f"{run.path}: expected the folder that host 0 writes; {SHARED}")
        run.begin(task.identity(), task.config)  # refuses a task other than that of host 0
        progress = train_speakers(task, run, network, report, hosts)
        if hosts.first:
            verify_speakers(task, run, network, progress, hosts)
        hosts.wait()  # until host 0 has written the result
        return read_json(run.metrics, SHARED, RESULT)


def train_speakers(
    task: PretrainTask, run: RunFolder, network: SpeakerNetwork, report: Callable[[str], None], hosts: Hosts
) -> VerificationProgress:
    """Train to the end of the schedule; save the weights of the epoch that it keeps."""
    schedule = task.schedule()
    progress = VerificationProgress()
    if run.state.is_file():
        progress = VerificationProgress.restore(run.state, network.state())
        report(f"resumed after epoch {len(progress.epochs)}")
    if hosts.mean(len(progress.epochs)) != len(progress.epochs):
        raise UserError(f"{run.state}: expected the same file on every host; {SHARED}")
    if not schedule.is_finished(progress):
        first = len(progress.epochs)
        crops = task.crops(first, hosts.share)
        callbacks = [*schedule.callbacks(), _EpochEnd(task, run, network, progress, hosts)]
        if hosts.first:
            callbacks += [keras.callbacks.TensorBoard(run.tensorboard, write_graph=False), Display(progress.SCORE)]
        hosts.fit(
            network.trained,
            network.batches(crops),
            range(first, schedule.epochs),
            crops.steps,
            callbacks,
            verbose=1 if sys.stdout.isatty() else 2,  # a bar, or one line per epoch
        )
    return progress


def verify_speakers(
    task: PretrainTask,
    run: RunFolder,
    network: SpeakerNetwork,
    progress: VerificationProgress,
    hosts: Hosts,
) -> None:
    """Verify with the kept epoch and with the untrained network; write `trials.csv` and, last, `metrics.json`."""
    sides = dict(zip(SIDES, (task.validation, task.test), strict=True))
    network.forget()
    untrained = {side: network.scores(task, run, trials) for side, trials in sides.items()}
    load_weights(network.embedding, run.weights)
    scores = {side: network.scores(task, run, trials) for side, trials in sides.items()}

    def verified(of: dict[str, np.ndarray]) -> dict[str, VerificationScores]:
        return {side: verification(trials.same, of[side]) for side, trials in sides.items()}

    result = {side: dataclasses.asdict(found) for side, found in verified(scores).items()}
    result["untrained"] = {side: dataclasses.asdict(found) for side, found in verified(untrained).items()}
    save_weights(network.embedding, run.weights, task.provenance(result), task.heard)
    save_network(network.embedding, run.network)
    _write_trials(run, sides, scores, untrained)
    recordings = sum(task.trained.values())
    content = {
        **task.identity(),
        "corpora": task.corpora(),
        "trial_list": None if task.trial_list is None else str(task.trial_list),
        "trained_speakers": list(task.trained),
        "trained_speakers_with_one_recording": sum(count == 1 for count in task.trained.values()),
        "recordings": recordings,
        "left_out_of_each_epoch": recordings % task.config.training.batch_size,
        "unusable_recordings": task.shards.failed,
        "seed": task.config.training.seed,
        "hosts": hosts.place.hosts,
        "devices": hosts.devices,
        "best_epoch": task.schedule().kept_epoch(progress) + 1,
        "epochs": len(progress.epochs),
        "validation_served_for": "best epoch" if task.config.training.schedule == "step" else "nothing",
        **result,
    }
    run.finish(content)


class _EpochEnd(keras.callbacks.Callback):
    """Verifies the validation speakers, saves weights and state, and ends training on all hosts on schedule."""

    def __init__(
        self,
        task: PretrainTask,
        run: RunFolder,
        network: SpeakerNetwork,
        progress: VerificationProgress,
        hosts: Hosts,
    ) -> None:
        super().__init__()
        self.task, self.run, self.network, self.progress, self.hosts = task, run, network, progress, hosts
        self.heard = task.heard
        self.schedule = task.schedule()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = {} if logs is None else logs
        finished = self.hosts.first and self._keep(epoch, logs)
        self.model.stop_training = self.hosts.mean(finished) > 0

    def _keep(self, epoch: int, logs: dict[str, float]) -> bool:
        """Score and save the epoch; return whether it was the last."""
        trials = self.task.validation
        found = verification(trials.same, self.network.scores(self.task, self.run, trials))
        logs[self.progress.SCORE] = found.eer
        logs |= {f"validation_min_dcf_{prior}": cost for prior, cost in found.min_dcf.items()}
        self.progress.epochs.append({name: float(value) for name, value in logs.items()})
        if self.schedule.kept_epoch(self.progress) == epoch:
            provenance = self.task.provenance({"validation": dataclasses.asdict(found)})
            save_weights(self.network.embedding, self.run.weights, provenance, self.heard)
        write_log(self.run, self.progress)
        self.progress.save(self.run.state, self.network.state())  # last: a resumed run rewrites the files above
        return self.schedule.is_finished(self.progress)


def _write_trials(
    run: RunFolder, sides: dict[str, Trials], scores: dict[str, np.ndarray], untrained: dict[str, np.ndarray]
) -> None:
    rows: list[list[Any]] = [
        ["side", "same", "first", "second", "first_speaker", "second_speaker", "score", "untrained_score"]
    ]
    for side, trials in sides.items():
        for trial, *values in zip(trials.trials, scores[side], untrained[side], strict=True):
            pair = [trials.utterances[place] for place in trial[1:]]
            names, speakers = [each.name for each in pair], [each.speaker for each in pair]
            rows.append([side, int(trial.same), *names, *speakers, *(f"{value:.6f}" for value in values)])
    write_csv(run.path / TRIALS, rows)
