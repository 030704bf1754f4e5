"""Training step and prediction of `compact` against commit 9ce7120, whose normalisation took a dozen operations.

Each side is a process; they take turns, with the same packages and the same network. The last row compares a step of
the preset's own network fed by the live pipeline, with every kind of augmentation, with one fed from memory.
"""

import io
import itertools
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process, take_turns
from benchmarks.training import MATMUL_OPERATIONS, MATRIX_SIZE
from ser_tf.config import PRESETS, Config, NetworkConfig
from ser_tf.corpora.corpus import Corpus
from ser_tf.errors import UserError

BEFORE = "9ce7120"
PROJECT = Path(__file__).parents[1]
UNTIMED_STEPS, TIMED_STEPS = 10, 25
"""Steps of a block. The pipeline reads ahead; the untimed steps let its buffers settle."""
BLOCKS = 4


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    before = scratch / "before"
    _check_out(before)
    with ExitStack() as stack:
        old, new = (stack.enter_context(_worker(package)) for package in (before, PROJECT))
        seconds = {
            word: take_turns(lambda word=word: old(word), lambda word=word: new(word), at_least=15, seconds=20)
            for word in ("step", "predict")
        }
    operations = 3 * 2 * in_new_process(_multiply_adds) * 32
    peak = in_new_process(_matmul_seconds)
    for name, side in zip((f"at {BEFORE}", "now"), (0, 1), strict=True):
        step, predict = seconds["step"][side], seconds["predict"][side]
        share = Ratio.of(operations / step, MATMUL_OPERATIONS / peak, "matmul peak")
        yield Row(f"training steps {name}, 32 x 2.5 s", 1 / float(np.median(step)), "steps/s", share)
        yield Row(f"prediction {name}, one utterance of 3 s", 1e3 * float(np.median(predict)), "ms")
    for word, (old_seconds, new_seconds) in seconds.items():
        ratio = Ratio.of(new_seconds, old_seconds, f"the time at {BEFORE}")
        yield Row(f"{word}: now against {BEFORE}", ratio.median, "x", ratio)
    yield from in_new_process(_fed_live, corpus)


def _check_out(folder: Path) -> None:
    """Write the old package to a folder, without changing this checkout."""
    try:
        archive = subprocess.run(
            ["git", "-C", str(PROJECT), "archive", BEFORE, "ser_tf"], capture_output=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"steps: expected a clone of the project whose history has commit {BEFORE}; {error}") from error
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")


@contextmanager
def _worker(package: Path) -> Iterator[Callable[[str], None]]:
    """A function that sends a word to a process with the ser_tf of that folder, and waits for its answer."""
    script = PROJECT / "benchmarks" / "steps_worker.py"
    environment = os.environ | {"PYTHONPATH": str(package), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def call(word: str) -> None:
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            if not process.stdout.readline():
                raise UserError(f"steps: the process with {package} ended early; perhaps there was too little memory")

        yield call
        process.stdin.close()


def _multiply_adds() -> int:
    from ser_tf.network.se_resnet import describe

    network = NetworkConfig(width=0.25, stem_stride=2, final_pool_time_stride=1)
    return describe(Config(network=network), 2.5).multiply_adds


def _matmul_seconds() -> float:
    import tensorflow as tf

    matrix = tf.random.stateless_normal([MATRIX_SIZE, MATRIX_SIZE], seed=[0, 0])
    (seconds,) = take_turns(lambda: tf.matmul(matrix, matrix)[0, 0].numpy(), at_least=5)
    return float(np.median(seconds))


def _fed_live(corpus: Corpus) -> list[Row]:
    from benchmarks.networks import ready_to_train

    _, network, batches = ready_to_train(corpus, PRESETS["compact"], strategy="S1")
    live, in_memory = iter(batches), itertools.cycle(list(batches.take(8)))

    def block(source: Iterator[Any]) -> float:
        for _ in range(UNTIMED_STEPS):
            network.trained.train_on_batch(*next(source))
        start = time.perf_counter()
        for _ in range(TIMED_STEPS):
            network.trained.train_on_batch(*next(source))
        return (time.perf_counter() - start) / TIMED_STEPS

    seconds = np.array([[block(live), block(in_memory)] for _ in range(BLOCKS)])
    ratio = Ratio.of(seconds[:, 0], seconds[:, 1], "a batch in memory")
    return [Row("compact, a step fed by the live pipeline", 1e3 * float(np.median(seconds[:, 0])), "ms", ratio)]
