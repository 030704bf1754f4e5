"""A stream of recordings in one process: memory over 10,000 calls, and the gain from batches.

TensorFlow is imported in the functions that new processes run, as in `benchmarks.memory`.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process, take_turns
from ser_tf.config import SAMPLE_RATE_HZ, preset
from ser_tf.corpora.corpus import Corpus

CALLS = 10_000
SETTLED_AFTER = 1_000
"""Calls after which one-time allocations are done."""
SECONDS = (0.2, 1.2)
"""Shortest and longest recording."""
BATCHES = (8, 32)
BATCHED_RECORDINGS = 64


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    run, exports = scratch / "stream-run", scratch / "stream-exports"
    in_new_process(_write_tiny, run, exports)
    for name, folder in (("run", run), ("export", exports)):
        early, late = in_new_process(_resident_megabytes, folder)
        yield Row(f"{name}, resident after {SETTLED_AFTER:,} calls", early, "MB")
        yield Row(f"{name}, resident after {CALLS:,} calls", late, "MB", Ratio.of(late, early, f"{SETTLED_AFTER:,}"))
    alone, *batched = in_new_process(_seconds_per_recording, corpus, scratch / "stream-compact")
    yield Row("compact, one at a time", 1 / np.median(alone), "per s")
    for size, seconds in zip(BATCHES, batched, strict=True):
        gain = Ratio.of(alone, seconds, "one at a time")
        yield Row(f"compact, batches of up to {size} alike in length", 1 / np.median(seconds), "per s", gain)


def _write_tiny(run: Path, exports: Path) -> None:
    from benchmarks.networks import write_run
    from ser_tf.serving.export import export

    write_run(run, preset("tiny"))
    export(run, exports, card="")


def _resident_megabytes(folder: Path) -> tuple[float, float]:
    """After `SETTLED_AFTER` and after `CALLS` calls with recordings of random lengths, some of which repeat."""
    import ser_tf

    recogniser = ser_tf.load(folder)
    generator = np.random.default_rng(0)
    early = 0.0
    for call in range(CALLS):
        if call == SETTLED_AFTER:
            early = _resident()
        samples = round(generator.uniform(*SECONDS) * SAMPLE_RATE_HZ)
        recogniser(generator.uniform(-0.5, 0.5, samples), SAMPLE_RATE_HZ)
    return early, _resident()


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _seconds_per_recording(corpus: Corpus, run: Path) -> list[np.ndarray]:
    """From file to emotion, one at a time and in batches."""
    import ser_tf
    from benchmarks.networks import write_run
    from ser_tf.audio.vad import remove_silence
    from ser_tf.audio.waveform import read_waveform
    from ser_tf.pipeline import inputs_of_each

    write_run(run, preset("compact"))
    recogniser = ser_tf.load(run)
    files = [utterance.path for utterance in corpus.utterances[:BATCHED_RECORDINGS]]

    def alone() -> None:
        for file in files:
            recogniser(file)

    def batched(size: int) -> Callable[[], None]:
        def predict() -> None:
            speech = [remove_silence(read_waveform(file), recogniser.config.vad).waveform for file in files]
            for inputs, _ in inputs_of_each(speech, recogniser.config, size):
                recogniser.outputs_of(inputs)

        return predict

    sides = take_turns(alone, *map(batched, BATCHES), at_least=5)
    return [seconds / len(files) for seconds in sides]
