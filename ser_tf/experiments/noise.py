"""Noise measurement: finished runs on their own test speakers with white noise, pink noise and babble.

Noise is mixed into the waveform before silence removal, and the mixture takes the path of every prediction: voice
activity detector, spectrogram, network, classifier. All runs of a fold get the same mixtures. An utterance has one
noise of each kind, scaled to each signal-to-noise ratio; noise over half uses the same noise on one half only. Babble
comes from up to six training speakers of the fold at once, each with recordings in random order. The networks were
trained on these voices; test speakers are never among them.

`noise.csv` holds counts by speaker, emotion, noise and descriptors, `noise.json` their settings and runs. Both are
written after each fold, `noise.json` last: a run listed there is finished.
"""

import dataclasses
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ser_tf.audio import noise as sounds
from ser_tf.audio.vad import Speech, remove_silence, voiced
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config
from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.errors import UserError
from ser_tf.network.se_resnet import descriptor_count, frames_per_descriptor
from ser_tf.pipeline import PreparedSpeech, SpeechFile, inputs_of_each, prepare_speech
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.provenance import environment
from ser_tf.serving.predict import Recogniser, load_run
from ser_tf.statistics.noise_folder import (
    CLEAN,
    COLUMNS,
    CONDITIONS,
    DESCRIPTORS,
    NOISES,
    PORTIONS,
    SNR_DB,
    Condition,
    NoiseFolder,
)
from ser_tf.statistics.table import PredictionTable, read_predictions
from ser_tf.training.sides import without_contradictions

TALKERS = 6
FEWEST_TALKERS = 2
NOISE_SEED = 0
MEASUREMENT_VERSION = 1
"""Increase it when the same runs and recordings give different numbers."""
SNR_DEFINITION = (
    "mean square of the clean waveform over that of the noise, both over the samples that the voice activity detector "
    "takes for speech in the clean recording; over half of the utterance the same noise, in one half of that speech"
)


@dataclass(frozen=True)
class Heard:
    """An utterance in one condition.

    Attributes:
        utterance: the utterance.
        condition: the noise.
        speech: the mixture after silence removal.
        noisy: which samples of the speech are in the noisy half; None if the noise is not over half.
        clipped: number of samples beyond full scale.
    """

    utterance: Utterance
    condition: Condition
    speech: Speech
    noisy: slice | None
    clipped: int


@dataclass(frozen=True)
class ComparedRun:
    """A finished run to measure."""

    folder: RunFolder
    identity: dict[str, Any]
    config: Config

    @classmethod
    def read(cls, path: Path) -> "ComparedRun":
        """Read identity and configuration of a run.

        Raises:
            UserError: the folder holds no finished run with weights.
        """
        folder = RunFolder(path)
        folder.require_finished()
        if not folder.weights.is_file():
            raise UserError(f"{folder.weights}: expected the weights of the run; give a run that still has them")
        return cls(folder, folder.read_identity(), Config.load(folder.config))

    @property
    def name(self) -> str:
        """STRATEGY-foldN-seedN."""
        return f"{self.identity['strategy']}-fold{self.identity['fold']}-seed{self.config.training.seed}"

    @property
    def hash(self) -> str:
        """16 hex digits that identify the run: identity, configuration, weights and classifier."""
        content = hashlib.sha256(json.dumps([self.identity, dataclasses.asdict(self.config)]).encode())
        for file in sorted([*self.folder.path.glob("*.h5"), *self.folder.path.glob("svm.*")]):
            content.update(file.read_bytes())
        content.update((self.folder.path / "classifier.json").read_bytes())
        return content.hexdigest()[:16]


def measure(corpus: Corpus, folders: Sequence[Path], out: Path, report: Callable[[str], None]) -> NoiseFolder:
    """Test every run on its test speakers in every condition; runs already finished in `out` are kept.

    Args:
        corpus: the recordings of the runs.
        folders: finished runs of any strategies, folds and seeds; their networks may differ only in ghost clusters.
        out: folder of the result.
        report: receives a line per step.

    Raises:
        UserError: the runs do not belong together or to the corpus, or lack weights; or `out` holds other runs.
    """
    runs = {run.name: run for run in map(ComparedRun.read, folders)}
    tested = read_predictions(folders)
    tested.of(*tested.strategies)  # refuses runs with different utterances
    config = _shared_config(list(runs.values()))
    prepared = without_contradictions(corpus, prepare_speech(corpus.utterances, config))[1]
    if (corpus.name, prepared.data_hash) != (tested.corpus, tested.data_hash):
        raise UserError(
            f"{corpus.root}: expected the recordings of the runs: {tested.corpus}, data hash {tested.data_hash}. "
            f"Received: {corpus.name}, {prepared.data_hash}; give that corpus, with --keep-excluded if the runs used it"
        )
    settings = _settings(tested, config)
    folder = NoiseFolder(out)
    hashes = {name: run.hash for name, run in runs.items()}
    finished = folder.begin(settings, hashes)
    rows = [folder.read_rows()] if finished else []
    for fold, of_fold in _by_fold([run for run in runs.values() if run.name not in finished]).items():
        began = time.monotonic()
        names = ", ".join(run.name for run in of_fold)
        report(f"fold {fold}: {names}")
        measured, clipped = _measure_fold(of_fold, prepared, tested)
        seconds = (time.monotonic() - began) / len(of_fold)
        for run in of_fold:
            own = measured[measured["run"] == run.name]
            clean = own[own["noise"] == CLEAN.noise]
            finished[run.name] = {
                "strategy": run.identity["strategy"],
                "fold": fold,
                "seed": run.config.training.seed,
                "ghost_clusters": run.config.network.ghost_clusters,
                "hash": hashes[run.name],
                "utterances": len(clean),
                "clean_as_in_predictions": int((clean["emotion_named"] == clean["emotion_tested"]).sum()),
                "clipped_mixtures": clipped,
                "seconds": round(seconds, 1),
                "made_with": environment(),
            }
            rows.append(_counted(own))
            agreeing = finished[run.name]["clean_as_in_predictions"]
            report(
                f"{run.name}: {len(clean)} utterances x {len(CONDITIONS)} conditions, {seconds:.0f} s; without noise "
                f"{agreeing} predictions are as in predictions.csv"
            )
        folder.write(pd.concat(rows), {"settings": settings, "runs": finished})
    return folder


def heard_utterance(
    recording: SpeechFile, talkers: Mapping[str, Sequence[SpeechFile]], config: Config, seed: int = NOISE_SEED
) -> Iterator[Heard]:
    """An utterance in every condition.

    Every random draw depends only on the seed, the utterance's name and the kind of noise; for babble also on the
    talkers and their recordings.

    Args:
        recording: the utterance; it is decoded again, without the cache.
        talkers: speaker -> recordings, for the babble; the utterance's own speaker is skipped.
        config: silence removal.
        seed: of the noises and the halves.
    """
    utterance = recording.utterance
    waveform = read_waveform(utterance.path)
    is_speech = np.ones(len(waveform), bool) if recording.kept_whole else voiced(waveform, config.vad)
    noisy_half = sounds.half(is_speech, sounds.generator_of(seed, utterance.name, "half"))
    noises = {name: _noise(name, recording, len(waveform), talkers, seed) for name in NOISES}
    for condition in CONDITIONS:
        mixture, clipped, noisy = waveform, 0, None
        where = noisy_half if condition.portion == "half" else slice(0, len(waveform))
        if condition.snr_db is not None:
            noise = sounds.scaled(noises[condition.noise], waveform, is_speech, condition.snr_db)
            mixture = sounds.mixed(waveform, noise, where)
            clipped = int(np.sum(np.abs(waveform[where] + noise[where]) > 1))
        speech = remove_silence(mixture, config.vad, str(utterance.path))
        if condition.portion == "half":
            noisy = _kept(mixture, speech, where, config)
        yield Heard(utterance, condition, speech, noisy, clipped)


def draw_talkers(
    utterance: Utterance, talkers: Mapping[str, Sequence[SpeechFile]], samples: int, generator: np.random.Generator
) -> list[list[SpeechFile]]:
    """Recordings of each babble talker of an utterance, in order and enough to fill `samples`.

    Raises:
        UserError: there are fewer than two other speakers.
    """
    others = sorted(speaker for speaker in talkers if speaker != utterance.speaker)
    if len(others) < FEWEST_TALKERS:
        raise UserError(
            f"babble: expected at least {FEWEST_TALKERS} training speakers beside {utterance.speaker}. "
            f"Received: {len(others)}; measure runs with more speakers"
        )
    drawn = []
    for speaker in generator.permutation(others)[:TALKERS]:
        items = sorted(talkers[speaker], key=lambda item: item.utterance.name)
        order = generator.permutation(len(items))
        ends = np.cumsum([items[place].samples for place in order])
        enough = int(np.searchsorted(ends, samples)) + 1
        drawn.append([items[place] for place in order[:enough]])
    return drawn


def _noise(
    name: str, recording: SpeechFile, samples: int, talkers: Mapping[str, Sequence[SpeechFile]], seed: int
) -> np.ndarray:
    generator = sounds.generator_of(seed, recording.utterance.name, name)
    if name != "babble":
        return {"white": sounds.white, "pink": sounds.pink}[name](samples, generator)
    drawn = draw_talkers(recording.utterance, talkers, samples, generator)
    return sounds.babble([np.concatenate([item.waveform for item in items]) for items in drawn], samples, generator)


def _kept(mixture: np.ndarray, speech: Speech, where: slice, config: Config) -> slice:
    """The samples of the speech that come from `where`, the first or second half of the mixture."""
    middle = where.stop if where.start == 0 else where.start
    before = middle if speech.kept_whole else int(voiced(mixture, config.vad)[:middle].sum())
    return slice(0, before) if where.start == 0 else slice(before, len(speech.samples))


def _measure_fold(
    runs: Sequence[ComparedRun], prepared: PreparedSpeech, tested: PredictionTable
) -> tuple[pd.DataFrame, int]:
    """A row per run, utterance and condition; and the number of clipped mixtures."""
    recognisers = {run.name: load_run(run.folder.path) for run in runs}
    config, identity = runs[0].config, runs[0].identity
    sides = {
        side: [item for item in prepared.items if item.utterance.speaker in identity[f"{side}_speakers"]]
        for side in ("train", "test")
    }
    talkers: dict[str, list[SpeechFile]] = defaultdict(list)
    for item in sides["train"]:
        talkers[item.utterance.speaker].append(item)
    named = tested.rows[tested.rows["fold"] == identity["fold"]]
    parts, clipped = [], 0
    speakers = sorted({item.utterance.speaker for item in sides["test"]})
    for speaker in speakers:  # one at a time, so that few mixtures are in memory
        spoken = [item for item in sides["test"] if item.utterance.speaker == speaker]
        heard = [one for item in spoken for one in heard_utterance(item, talkers, config)]
        clipped += sum(one.clipped > 0 for one in heard)
        predicted = _predicted(heard, recognisers)
        for run in runs:
            own = named[(named["strategy"] == run.identity["strategy"]) & (named["seed"] == run.config.training.seed)]
            part = predicted[run.name]
            part["emotion_tested"] = part["utterance"].map(dict(zip(own["utterance"], own["prediction"], strict=True)))
            place = {"run": run.name, "strategy": run.identity["strategy"], "fold": identity["fold"]}
            parts.append(part.assign(**place, seed=run.config.training.seed))
    return pd.concat(parts, ignore_index=True), clipped


def _predicted(heard: Sequence[Heard], recognisers: Mapping[str, Recogniser]) -> dict[str, pd.DataFrame]:
    """Per recogniser, a row for each utterance and condition."""
    config = next(iter(recognisers.values())).config
    rows: dict[str, list[dict[str, Any]]] = {name: [{} for _ in heard] for name in recognisers}
    for inputs, places in inputs_of_each([one.speech.waveform for one in heard], config):
        frames = np.asarray(inputs["frames"])
        for name, recogniser in recognisers.items():
            probabilities, outputs = recogniser.outputs_of(inputs)
            for row, place in enumerate(places):
                one = heard[place]
                shares = outputs["ghost_share"][row, : descriptor_count(int(frames[row]), config.network)]
                emotion = recogniser.emotions[int(probabilities[row].argmax())]
                rows[name][place] = _row(one, emotion, shares, recogniser.config)
    tables = {name: pd.DataFrame(table) for name, table in rows.items()}
    for table in tables.values():
        clean = table[table["noise"] == CLEAN.noise].set_index("utterance")["correct"]
        table["clean_correct"] = table["utterance"].map(clean)
    return tables


def _row(one: Heard, emotion: str, shares: np.ndarray, config: Config) -> dict[str, Any]:
    has_ghosts = config.network.ghost_clusters > 0
    halves = (np.nan, np.nan)
    if has_ghosts and one.noisy is not None:
        halves = _shares_of_halves(shares, one.noisy, config)
    return {
        "utterance": one.utterance.name,
        "speaker": one.utterance.speaker,
        "emotion": one.utterance.emotion,
        **dataclasses.asdict(one.condition),
        "condition": CONDITIONS.index(one.condition),
        "descriptors": len(shares),
        "emotion_named": emotion,
        "correct": emotion == one.utterance.emotion,
        "ghost_share": shares.mean() if has_ghosts else np.nan,
        "ghost_share_noisy": halves[0],
        "ghost_share_clean": halves[1],
    }


def _shares_of_halves(shares: np.ndarray, noisy: slice, config: Config) -> tuple[float, float]:
    """Mean ghost share of the descriptors in the noisy and in the clean half; both NaN if a half has none.

    A descriptor belongs to a half if all frames up to the next descriptor lie in it. It also covers about 2 s around
    them, and the whole utterance through squeeze-and-excitation, which blurs the difference.
    """
    step = frames_per_descriptor(config.network)
    hop, window = config.spectrogram.hop_samples, config.spectrogram.window_samples
    begins = np.arange(len(shares)) * step * hop
    ends = begins + (step - 1) * hop + window
    inside = (begins >= noisy.start) & (ends <= noisy.stop)
    outside = (ends <= noisy.start) | (begins >= noisy.stop)
    if not inside.any() or not outside.any():
        return np.nan, np.nan
    return float(shares[inside].mean()), float(shares[outside].mean())


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    """Counts and mean shares by speaker, emotion, condition and descriptors, as text in the columns of `noise.csv`."""
    snr_db = rows["snr_db"].map(lambda value: "" if pd.isna(value) else f"{value:.0f}")
    descriptors = rows["descriptors"].map(lambda count: DESCRIPTORS[min(count, len(DESCRIPTORS)) - 1])
    rows = rows.assign(snr_db=snr_db, descriptors=descriptors)
    keys = COLUMNS[: COLUMNS.index("utterances")]
    groups = rows.sort_values(["speaker", "emotion", "condition", "descriptors"]).groupby(keys, sort=False)
    counts = groups.agg(
        utterances=("correct", "size"),
        correct=("correct", "sum"),
        clean_correct=("clean_correct", "sum"),
        ghost_share=("ghost_share", "mean"),
        both_halves=("ghost_share_noisy", "count"),
        ghost_share_noisy=("ghost_share_noisy", "mean"),
        ghost_share_clean=("ghost_share_clean", "mean"),
    ).reset_index()
    has_ghosts = counts["ghost_share"].notna()
    for name in ("ghost_share", "ghost_share_noisy", "ghost_share_clean"):
        counts[name] = counts[name].map(lambda share: "" if np.isnan(share) else f"{share:.4f}")
    return counts[COLUMNS].astype(str).assign(both_halves=lambda text: text["both_halves"].where(has_ghosts, ""))


def _settings(tested: PredictionTable, config: Config) -> dict[str, Any]:
    """Everything but the runs that determines the numbers, as JSON values."""
    return {
        "corpus": tested.corpus,
        "scheme": tested.scheme,
        "scheme_hash": tested.scheme_hash,
        "data_hash": tested.data_hash,
        "emotions": list(tested.emotions),
        "noises": list(NOISES),
        "portions": list(PORTIONS),
        "snr_db": list(SNR_DB),
        "snr_definition": SNR_DEFINITION,
        "talkers": TALKERS,
        "talkers_from": "training speakers of the fold",
        "noise_seed": NOISE_SEED,
        "vad": dataclasses.asdict(config.vad),
        "version": MEASUREMENT_VERSION,
    }


def _shared_config(runs: Sequence[ComparedRun]) -> Config:
    """The configuration of the first run.

    Raises:
        UserError: another run has a different input or a different network, ghost clusters aside.
    """

    def compared(config: Config) -> tuple[Any, ...]:
        return config.audio, config.vad, config.spectrogram, dataclasses.replace(config.network, ghost_clusters=0)

    first = runs[0]
    for run in runs:
        if compared(run.config) != compared(first.config):
            raise UserError(
                f"{run.folder.path}: expected audio, vad, spectrogram and network of {first.folder.path}, except for "
                "ghost clusters. Received: different ones; measure these runs separately"
            )
    return first.config


def _by_fold(runs: Sequence[ComparedRun]) -> dict[int, list[ComparedRun]]:
    folds: dict[int, list[ComparedRun]] = defaultdict(list)
    for run in runs:
        folds[run.identity["fold"]].append(run)
    return dict(sorted(folds.items()))
