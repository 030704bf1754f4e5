"""Peak memory, each in a process of its own, and whether it grows with the corpus.

TensorFlow is imported inside the functions that those processes run: a process starts with the peak of the one that
made it, so this one has to stay small.
"""

import dataclasses
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import Ratio, Row, in_new_process
from benchmarks.recordings import sample_of, write_clip
from ser_tf.config import preset
from ser_tf.corpora import Corpus

CONFIG = preset("compact")
PLAIN_BATCHES = dataclasses.replace(CONFIG, training=dataclasses.replace(CONFIG.training, batches="plain"))
"""A small sample of a corpus may lack what balanced ones need."""
STEPS = 3


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    run, clip = scratch / "memory-run", scratch / "clip.wav"
    in_new_process(_write_run, run)
    write_clip(clip, corpus, seconds=3)
    imports, _ = _peak(_import)
    works: dict[str, tuple[Any, ...]] = {
        "preparing the speech": (_prepare, corpus, scratch / "memory-prepare"),
        "training compact, and its embeddings": (_train, corpus),
        "predicting with compact": (_predict, run, clip),
    }
    yield Row("importing all of ser_tf", imports, "MB")
    for name, work in works.items():
        yield _compared(name, _peak(*work)[0], imports, "imports")

    quarter = sample_of(corpus, len(corpus.utterances) // 4)
    few, few_speech = _peak(_pipeline, quarter, scratch / "memory-quarter")
    many, many_speech = _peak(_pipeline, corpus, scratch / "memory-whole")
    yield Row(f"pipeline, {len(quarter.utterances)} recordings", few, "MB")
    yield _compared(
        f"pipeline, {len(corpus.utterances)} recordings", many, few, f"{len(quarter.utterances)} recordings"
    )
    yield _compared("growth", many - few, many_speech - few_speech, "speech that was added")


def _compared(what: str, megabytes: float, other: float, to: str) -> Row:
    return Row(what, megabytes, "MB", Ratio.of(megabytes, other, to))


def _peak(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Largest resident memory, in MB, of a new process that does the work; and what the work returned."""
    return in_new_process(_work_and_peak, work, *arguments)


def _work_and_peak(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    result = work(*arguments)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, result  # Linux counts KiB


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


def _pipeline(corpus: Corpus, cache: Path) -> float:
    """Prepare, crop for an epoch, go through whole utterances; returns the MB of their speech in the cache."""
    import numpy as np

    from ser_tf.pipeline import evaluation_dataset, prepare_speech, training_dataset

    items = prepare_speech(corpus.utterances, CONFIG, cache).items
    labels = np.array([corpus.emotions.index(item.utterance.emotion) for item in items])
    for _ in training_dataset(items, labels, PLAIN_BATCHES).take(len(items) // CONFIG.training.batch_size):
        pass
    for _ in evaluation_dataset(items, CONFIG):
        pass
    return sum(2 * item.samples for item in items) / 1e6
