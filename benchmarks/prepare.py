"""Shards: hours of audio a second and core, what that means for VoxCeleb2, and how fast crops come out again.

Workers are timed from the moment when the last of them has imported TensorFlow: on a corpus worth sharding that is
nothing. VoxCeleb2 is m4a, so the recordings are also encoded as such, and its time follows from those.
"""

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks.measuring import Ratio, Row
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SAMPLE_RATE_HZ, Config, preset
from ser_tf.corpora import Corpus
from ser_tf.pipeline import training_crops
from ser_tf.preparation.manifest import Shards
from ser_tf.preparation.prepare import Prepared, prepare

VOXCELEB2_HOURS = 2400
MACHINES = 16
STEP_SECONDS = 0.01
"""What a step of `paper` may take on a GPU."""
TURNS = 3
STEPS = 100
WARM_UP_STEPS = 40
BIT_RATE = 64_000


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    folders = {"as they are": scratch / "linked", "m4a": scratch / "m4a"}
    for utterance in corpus.utterances:
        name = f"{utterance.speaker.replace(':', '-')}/{utterance.path.stem}"
        linked = folders["as they are"] / f"{name}{utterance.path.suffix}"
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(utterance.path.resolve())
        _write_m4a((folders["m4a"] / name).with_suffix(".m4a"), read_waveform(utterance.path))

    rates: dict[str, dict[int, np.ndarray]] = {}
    for kind, folder in folders.items():
        rates[kind] = {}
        for workers in (1, 2):
            turns = [_rate(folder, scratch / f"{kind}-{workers}-{turn}", workers) for turn in range(TURNS)]
            rates[kind][workers] = np.array([rate for rate, _ in turns])
            (_, prepared), *_ = turns
            ratio = None if workers == 1 else Ratio.of(rates[kind][2], rates[kind][1], "one worker's")
            what = f"{kind}, {workers} worker{'s' * (workers > 1)}"
            yield Row(what, float(np.median(rates[kind][workers])) / workers, "h/s/core", ratio)

    cores = len(os.sched_getaffinity(0))
    # With as many workers as cores every core has the rate of one of two: what they share is paid already.
    hours = VOXCELEB2_HOURS / (float(np.median(rates["m4a"][2])) / 2 * cores) / 3600
    yield Row(f"VoxCeleb2, {VOXCELEB2_HOURS} h, on this machine, {cores} cores", hours, "h")
    yield Row(f"VoxCeleb2 on {MACHINES} such machines, if storage keeps up", 60 * hours / MACHINES, "min")
    gigabytes = VOXCELEB2_HOURS * prepared.megabytes / 1000 / (prepared.recorded_seconds / 3600)
    yield Row("VoxCeleb2 in shards, with this corpus's silence", gigabytes, "GB")

    config = preset("paper")
    crops = _crops_per_second(Shards.open([prepared.out], config), config)
    wanted = config.training.batch_size / STEP_SECONDS
    yield Row(
        "crops of 2.5 s out of shards", crops, "crops/s", Ratio.of(crops, wanted, f"{wanted:.0f} at 10 ms a step")
    )


def _rate(root: Path, out: Path, workers: int) -> tuple[float, Prepared]:
    """Hours of audio a second, all workers together."""
    ready = out.with_name(f"{out.name}-ready")
    ready.mkdir()
    prologue = partial(_wait_for_all, ready, workers)
    prepared = prepare(root, out, Config(), workers=workers, prologue=prologue, report=lambda line: None)
    written = max(path.stat().st_mtime for path in out.glob("*.tfrecord"))
    began = max(path.stat().st_mtime for path in ready.iterdir())
    return prepared.recorded_seconds / 3600 / (written - began), prepared


def _wait_for_all(ready: Path, workers: int) -> None:
    import tensorflow as tf  # noqa: F401

    (ready / str(os.getpid())).touch()
    while len(list(ready.iterdir())) < workers:
        time.sleep(0.01)


def _crops_per_second(shards: Shards, config: Config) -> float:
    batches = iter(training_crops(shards, config).dataset)
    for _ in range(WARM_UP_STEPS):
        next(batches)
    start = time.perf_counter()
    for _ in range(STEPS):
        next(batches)
    return STEPS * config.training.batch_size / (time.perf_counter() - start)


def _write_m4a(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(waveform[np.newaxis], "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
