"""Latency of a prediction for a recording of 3 s, preset `compact`, in a new and in a warm process."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

import ser_tf
from benchmarks.measuring import Ratio, Row, take_turns
from benchmarks.networks import write_run
from benchmarks.recordings import write_clip
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import preset
from ser_tf.corpora.corpus import Corpus
from ser_tf.pipeline import inputs_of

SECONDS = 3
IMPORT_ONLY = "from ser_tf import load"
FIRST_PREDICTION = "import sys, ser_tf; ser_tf.load(sys.argv[1])(sys.argv[2])"


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    run, clip = scratch / "predict-run", scratch / "clip.wav"
    write_run(run, preset("compact"))
    write_clip(clip, corpus, SECONDS)

    recogniser = ser_tf.load(run)
    inputs = inputs_of(remove_silence(read_waveform(clip), recogniser.config.vad).waveform, recogniser.config)
    warm, forward = take_turns(
        lambda: recogniser(clip), lambda: recogniser.features.predict_on_batch(inputs), at_least=50, seconds=5
    )
    python = partial(subprocess.run, check=True)
    cold, imports = take_turns(
        lambda: python([sys.executable, "-c", FIRST_PREDICTION, run, clip]),
        lambda: python([sys.executable, "-c", IMPORT_ONLY]),
        warm_up=False,
    )
    yield Row("cold: new process, load, first prediction", np.median(cold), "s", Ratio.of(cold, imports, "imports"))
    yield Row("warm, median", 1000 * np.median(warm), "ms", Ratio.of(warm, forward, "network alone"))
    yield Row("warm, 95th percentile", 1000 * np.quantile(warm, 0.95), "ms")
