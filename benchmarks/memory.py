"""Peak memory, each in a new process, and whether it grows with the corpus.

The corpus that is four times as large lists the same recordings four times: other recordings would form other batches,
which would change the peak more than their number does.

TensorFlow is imported in the functions that the new processes run: a process starts with the peak of its parent, so the
parent must stay small.
"""

import dataclasses
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process
from benchmarks.recordings import write_clip
from ser_tf.config import preset
from ser_tf.corpora.corpus import Corpus

CONFIG = preset("compact")
PLAIN_BATCHES = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, batches="plain"))
"""A small sample may lack what balanced batches need."""
STEPS = 3
TURNS = 3


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    run, clip = scratch / "memory-run", scratch / "clip.wav"
    in_new_process(_write_run, run)
    write_clip(clip, corpus, seconds=3)
    imports = peak(_import)
    works: dict[str, tuple[Any, ...]] = {
        "preparing the speech": (_prepare, corpus, scratch / "memory-prepare"),
        "training compact, and its embeddings": (_train, corpus),
        "predicting with compact": (_predict, run, clip),
    }
    yield Row("importing all of ser_tf", imports, "MB")
    for name, work in works.items():
        yield _compared(name, peak(*work), imports, "imports")

    listed_again = dataclasses.replace(corpus, utterances=corpus.utterances * 4)
    turns = np.array([[peak(_pipeline, each) for each in (corpus, listed_again)] for _ in range(TURNS)])
    once, four_times = turns.T
    yield Row(f"pipeline, {len(corpus.utterances)} recordings", float(np.median(once)), "MB")
    yield _compared("pipeline, the same listed four times", four_times, once, "once")


def _compared(what: str, megabytes: np.ndarray | float, other: np.ndarray | float, to: str) -> Row:
    return Row(what, float(np.median(megabytes)), "MB", Ratio.of(megabytes, other, to))


def peak(work: Callable[..., None], *arguments: Any) -> float:
    """Peak resident memory, in MB, of a new process that does the work."""
    return in_new_process(_work_and_peak, work, *arguments)


def _work_and_peak(work: Callable[..., None], *arguments: Any) -> float:
    work(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # Linux counts KiB


def _import() -> None:
    import ser_tf.serving.predict
    import ser_tf.training.finetune  # noqa: F401


def _prepare(corpus: Corpus, cache: Path) -> None:
    from ser_tf.pipeline import prepare_speech

    prepare_speech(corpus.utterances, CONFIG, cache)


def _train(corpus: Corpus) -> None:
    from benchmarks.networks import ready_to_train

    task, network, batches = ready_to_train(corpus, CONFIG)
    network.trained.fit(batches, steps_per_epoch=STEPS, verbose=0)
    network.describe(task.prepared.items, task.config)


def _write_run(run: Path) -> None:
    from benchmarks.networks import write_run

    write_run(run, CONFIG)


def _predict(run: Path, clip: Path) -> None:
    import ser_tf

    ser_tf.load(run)(clip)


def _pipeline(corpus: Corpus) -> None:
    """Prepare, crop for an epoch, and read whole utterances."""
    from ser_tf.pipeline import evaluation_batches, prepare_speech, training_dataset

    with TemporaryDirectory() as cache:
        items = prepare_speech(corpus.utterances, CONFIG, Path(cache)).items
        labels = np.array([corpus.emotions.index(item.utterance.emotion) for item in items])
        for _ in training_dataset(items, labels, PLAIN_BATCHES).take(len(items) // CONFIG.training.batch_size):
            pass
        for _ in evaluation_batches(items, CONFIG):
            pass
