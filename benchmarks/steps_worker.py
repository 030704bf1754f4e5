"""Times training steps and predictions of `compact` as of commit 9ce7120, with the ser_tf on PYTHONPATH.

For each line of standard input, "step" or "predict", it prints the seconds taken.
"""

import sys
import time

import keras
import numpy as np
import tensorflow as tf

from ser_tf.config import NetworkConfig
from ser_tf.network import se_resnet

BATCH, CROP_FRAMES, CLASSES, HEAD_UNITS = 32, 247, 8, 512  # crops of 2.5 s
UTTERANCE_FRAMES = 297  # 3 s


def main() -> None:
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    network = se_resnet.embedding_network(NetworkConfig(width=0.25, stem_stride=2, final_pool_time_stride=1))
    features = se_resnet.with_softmax_head(network, CLASSES, HEAD_UNITS)
    without_padding = getattr(se_resnet, "without_padding", lambda same: same)  # the old commit has none
    trained = without_padding(features)
    trained = keras.Model(trained.inputs, {"logits": trained.output["logits"]})
    trained.compile("adam", {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}, jit_compile=False)

    def inputs(batch: int, frames: int) -> dict[str, tf.Tensor]:
        values = tf.random.stateless_normal([batch, frames, 257], seed=[0, frames])
        return {"spectrogram": values, "frames": tf.fill([batch], frames)}

    crops, labels = inputs(BATCH, CROP_FRAMES), tf.constant(np.arange(BATCH) % CLASSES)
    utterance = inputs(1, UTTERANCE_FRAMES)
    work = {
        "step": lambda: trained.train_on_batch(crops, labels),
        "predict": lambda: features.predict_on_batch(utterance),
    }
    for line in sys.stdin:
        start = time.perf_counter()
        work[line.strip()]()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
