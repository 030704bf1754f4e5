"""Fixtures that every test may use."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import chromium
import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_tf.config import PRESETS, Config

if TYPE_CHECKING:
    from ser_tf.runs.folder import RunFolder
    from ser_tf.statistics.table import PredictionTable
    from ser_tf.training.fold_task import FoldTask

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
REAL = (
    "originals/ravdess/03-01-06-01-01-02-20.wav",
    "originals/ravdess/03-01-05-02-02-01-15.wav",
    "crema_d/AudioOGG/1001_DFA_ANG_XX.ogg",
    "crema_d/AudioOGG/1040_IEO_HAP_HI.ogg",
)
"""Some of the recordings there, of both corpora."""


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real speech outside the repository."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real speech is not there: {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[chromium.Page]:
    """A page of a headless Chromium."""
    found = chromium.find()
    if found is None:
        pytest.skip(chromium.MISSING)
    with chromium.page(found, tmp_path_factory.mktemp("profile")) as page:
        yield page


PITCHES_HZ = {"happy": 330.0, "sad": 110.0, "angry": 220.0}
TAKES = 4
BROKEN = "broken.wav"


@pytest.fixture(scope="session")
def tones(tmp_path_factory) -> Path:
    """A table of short tones that a small network learns at once: the pitch gives the emotion.

    Six speakers; one recording of the last, who trains in fold 1, is of zero bytes.
    """
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("tones")
    rows = ["path,speaker,emotion"]
    for speaker in range(1, 7):
        for emotion, pitch_hz in PITCHES_HZ.items():
            for take in range(TAKES):
                phases = 2 * np.pi * pitch_hz * (1 + speaker / 50) * np.arange(9600) / 16_000
                harmonics = [np.sin(number * phases + generator.uniform(0, 6)) / number for number in range(1, 8)]
                samples = 0.1 * np.sum(harmonics, axis=0) + 0.02 * generator.normal(size=9600)
                name = f"{speaker}-{emotion}-{take}.wav"
                soundfile.write(folder / name, samples, 16_000)
                rows.append(f"{name},{speaker},{emotion}")
    (folder / BROKEN).touch()
    rows.append(f"{BROKEN},6,sad")
    table = folder / "tones.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


@pytest.fixture(scope="session")
def small() -> Config:
    """A configuration that trains in seconds."""
    tiny = PRESETS["tiny"]
    return replace(
        tiny,
        network=replace(tiny.network, descriptor_size=16, clusters=2, head_units=8),
        training=replace(tiny.training, crop_seconds=0.5, batch_size=16, maximum_epochs=6, patience_epochs=2),
    )


@pytest.fixture(scope="module")
def shallow(tmp_path_factory) -> Iterator[None]:
    """Networks of one block for the tests of a module, and a separate speech cache.

    Tracing layers is slow, and these tests do not depend on the depth.
    """
    from ser_tf.network import se_resnet

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(se_resnet, "STAGES", (se_resnet.STAGES[0]._replace(blocks=1),))
        patch.setenv("SER_TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def task_of(tones, small) -> Callable[..., "FoldTask"]:
    """Makes the task of a strategy on fold 1 of the tones: they test speaker 1, validate on 2 and train on 3 to 6."""
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus
    from ser_tf.training.fold_task import FoldTask

    def task(strategy: str, *, fold: int = 1, config: Config = small, weights: Path | None = None) -> FoldTask:
        corpus = open_corpus(tones)
        return FoldTask.make(corpus, load_scheme("complete", corpus), fold, strategy, config, weights)

    return task


@pytest.fixture(scope="session")
def finetuned(task_of, small, tmp_path_factory) -> Callable[[str], "RunFolder"]:
    """The finished run of a strategy, trained on first use; for modules that use `shallow`.

    S5 starts from the weights of S3 and trains with a softmax term beside the metric loss.
    """
    from ser_tf.runs.folder import RunFolder
    from ser_tf.training.finetune import finetune

    folder = tmp_path_factory.mktemp("runs")

    def run(strategy: str) -> RunFolder:
        run_folder = RunFolder(folder / strategy)
        if not run_folder.finished:
            task = task_of(strategy)
            if strategy == "S5":
                config = replace(small, loss=replace(small.loss, softmax_weight=0.5))
                task = task_of(strategy, config=config, weights=run("S3").weights)
            finetune(task, run_folder, report=print)
        return run_folder

    return run


@pytest.fixture(scope="session")
def table_of() -> Callable[..., "PredictionTable"]:
    """Makes a table of predictions like those of RAVDESS; every run has the same utterances of three emotions.

    Each speaker is tested in one fold, two speakers a fold, and has 4 to 7 utterances of each emotion.
    """
    from ser_tf.statistics.table import PredictionTable

    emotions = ("neutral", "happy", "sad")

    def table(skills: Mapping[str, float], *, seeds: int = 1, speakers: int = 6) -> PredictionTable:
        """Skill 0 is chance, 1 nearly always right."""
        generator = np.random.default_rng(0)
        takes = generator.integers(4, 8, size=(speakers, len(emotions)))
        truth = np.concatenate([np.repeat(range(len(emotions)), row) for row in takes])
        speaker = np.repeat(range(1, speakers + 1), takes.sum(axis=1))
        runs = []
        for strategy, skill in skills.items():
            for seed in range(seeds):
                shares = generator.dirichlet(np.ones(len(emotions)), size=len(truth))
                shares += skill * np.eye(len(emotions))[truth]
                shares /= shares.sum(axis=1, keepdims=True)
                run = {
                    "strategy": strategy,
                    "seed": seed,
                    "fold": (speaker + 1) // 2,
                    "utterance": [f"take-{number}" for number in range(len(truth))],
                    "file": [f"take-{number}.wav" for number in range(len(truth))],
                    "speaker": [f"ravdess:{number:02d}" for number in speaker],
                    "truth": pd.Categorical.from_codes(truth, emotions),
                    "prediction": pd.Categorical.from_codes(shares.argmax(axis=1), emotions),
                }
                runs.append(pd.DataFrame(run | dict(zip(emotions, shares.T, strict=True))))
        return PredictionTable("ravdess", "complete", "0" * 16, "1" * 16, emotions, pd.concat(runs))

    return table
