"""Training steps of each preset, as a share of the machine's rate in a large float32 matrix product.

A step is that of strategy S5: forward, mining, backward, update, on a batch in memory. It counts three passes (forward,
gradients of the maps, gradients of the weights) of two operations per multiply-add.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process, take_turns
from ser_tf.config import PRESETS
from ser_tf.corpora.corpus import Corpus

MATRIX_SIZE = 4096
MATMUL_OPERATIONS = 2 * MATRIX_SIZE**3


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    for name in PRESETS:
        yield from in_new_process(_measure_preset, corpus, name)


def _measure_preset(corpus: Corpus, name: str) -> list[Row]:
    import tensorflow as tf

    from benchmarks.networks import ready_to_train
    from ser_tf.network.se_resnet import describe

    task, network, batches = ready_to_train(corpus, PRESETS[name])
    inputs, labels = next(iter(batches.take(1)))
    matrix = tf.random.stateless_normal([MATRIX_SIZE, MATRIX_SIZE], seed=[0, 0])
    matmul_seconds, step_seconds = take_turns(
        lambda: tf.matmul(matrix, matrix)[0, 0].numpy(),  # `numpy` waits for a GPU
        lambda: network.trained.train_on_batch(inputs, labels),
        at_least=2,
        seconds=5,
    )
    training = task.config.training
    multiply_adds = describe(task.config, training.crop_seconds).multiply_adds
    step_operations = 3 * 2 * multiply_adds * training.batch_size
    what = f"{name}, {training.batch_size} x {training.crop_seconds:g} s"
    share = Ratio.of(step_operations / step_seconds, MATMUL_OPERATIONS / matmul_seconds, "matmul peak")
    return [
        Row(f"matmul beside {name}", MATMUL_OPERATIONS / np.median(matmul_seconds) / 1e9, "GFLOP/s"),
        Row(what, 1 / np.median(step_seconds), "steps/s", share),
    ]
