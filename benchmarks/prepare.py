"""Shards: hours of audio per second and core, the time for VoxCeleb2, memory, and crops read per second.

Timing starts when all workers have imported TensorFlow, which is negligible on a corpus worth sharding. VoxCeleb2 is
m4a, so the recordings are also encoded as m4a, and its time is computed from these.

A process starts with the peak memory of its parent, so this one imports TensorFlow last.
"""

import os
import resource
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SAMPLE_RATE_HZ, Config, preset
from ser_tf.corpora.corpus import Corpus
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining.prepare import Prepared, prepare

VOXCELEB2_HOURS = 2400
MACHINES = 16
TIMES_LISTED = 4
"""For memory: the larger corpus has each recording under this many names."""
STEP_SECONDS = 0.01
"""Assumed duration of a step of `paper` on a GPU."""
TURNS = 3
STEPS = 100
WARM_UP_STEPS = 40
BIT_RATE = 64_000


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    linked, listed, encoded = (scratch / name for name in ("linked", "listed", "m4a"))
    for utterance in corpus.utterances:
        name = f"{utterance.speaker.replace(':', '-')}/{utterance.path.stem}"
        _link(linked / f"{name}{utterance.path.suffix}", utterance.path)
        for number in range(TIMES_LISTED):
            _link(listed / f"{name}-{number}{utterance.path.suffix}", utterance.path)
        _write_m4a((encoded / name).with_suffix(".m4a"), read_waveform(utterance.path))

    cores = len(os.sched_getaffinity(0))
    rates: dict[str, dict[int, np.ndarray]] = {}
    for kind, folder in (("as they are", linked), ("m4a", encoded)):
        rates[kind] = {}
        for workers in (1, 2):
            turns = [_rate(folder, scratch / f"{kind}-{workers}-{turn}", workers) for turn in range(TURNS)]
            rates[kind][workers] = np.array([rate for rate, _ in turns])
            (_, prepared), *_ = turns
            ratio = None if workers == 1 else Ratio.of(rates[kind][2], rates[kind][1], "one worker's")
            what = f"{kind}, {workers} worker{'s' * (workers > 1)}"
            yield Row(what, float(np.median(rates[kind][workers])) / min(workers, cores), "h/s/core", ratio)

    # With two workers the rate per core already includes the cost of sharing the machine.
    hours = VOXCELEB2_HOURS / (float(np.median(rates["m4a"][2])) / min(2, cores) * cores) / 3600
    yield Row(f"VoxCeleb2, {VOXCELEB2_HOURS} h, on this machine, {cores} cores", hours, "h")
    yield Row(f"VoxCeleb2 on {MACHINES} such machines, if storage keeps up", 60 * hours / MACHINES, "min")
    gigabytes = VOXCELEB2_HOURS * prepared.megabytes / 1000 / (prepared.recorded_seconds / 3600)
    yield Row("VoxCeleb2 in shards, with this corpus's silence", gigabytes, "GB")

    once, several = (in_new_process(_resident, root, scratch / f"{root.name}-resident") for root in (linked, listed))
    for what, megabytes, of_several in zip(("command", "worker"), once, several, strict=True):
        yield Row(f"memory of the {what}, {len(corpus.utterances)} recordings", megabytes, "MB")
        ratio = Ratio.of(of_several, megabytes, "once")
        yield Row(f"memory of the {what}, {TIMES_LISTED} times as many", of_several, "MB", ratio)

    config = preset("paper")
    crops = _crops_per_second(Shards.open([prepared.out], config), config)
    wanted = config.training.batch_size / STEP_SECONDS
    what = f"crops of {config.training.crop_seconds} s out of shards, {cores} cores"
    yield Row(what, crops, "crops/s", Ratio.of(crops, wanted, f"{wanted:.0f} at 10 ms a step"))
    yield Row(f"cores that give {wanted:.0f} crops/s, if they add up", cores * wanted / crops, "cores")


def _rate(root: Path, out: Path, workers: int) -> tuple[float, Prepared]:
    """Hours of audio per second, all workers together."""
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


def _resident(root: Path, out: Path) -> tuple[float, float]:
    """Peak resident memory, in MB, of this process while it prepares, and of its only worker."""
    prepare(root, out, Config(), workers=1, report=lambda line: None)
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    own, of_worker = (resource.getrusage(kind).ru_maxrss * 1024 / 1e6 for kind in kinds)  # Linux counts KiB
    return own, of_worker


def _crops_per_second(shards: Shards, config: Config) -> float:
    from ser_tf.pretraining.shard_reader import training_crops

    batches = iter(training_crops(shards, config).dataset)
    for _ in range(WARM_UP_STEPS):
        next(batches)
    start = time.perf_counter()
    for _ in range(STEPS):
        next(batches)
    return STEPS * config.training.batch_size / (time.perf_counter() - start)


def _link(link: Path, path: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(path.resolve())


def _write_m4a(path: Path, waveform: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=BIT_RATE)
        frame = av.AudioFrame.from_ndarray(waveform[np.newaxis], "fltp", "mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
