"""Latency of a prediction for a recording of 3 s, preset `compact`, in a new and in a warm process.

The cold command is given its bound: `ser-tf predict clip.wav` may take 1.5 s of CPU with the packaged model.
"""

import resource
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
from ser_tf.serving.engines import export_onnx
from ser_tf.serving.packaged import DEFAULT, packaged_models

SECONDS = 3
IMPORT_ONLY = "from ser_tf import Recogniser"  # with Keras; `load` imports it only for a run
COLD_CPU_SECONDS = 1.5
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
    yield _cold_command(run, clip, scratch)
    yield Row("warm, median", 1000 * np.median(warm), "ms", Ratio.of(warm, forward, "network alone"))
    yield Row("warm, 95th percentile", 1000 * np.quantile(warm, 0.95), "ms")


def _cold_command(run: Path, clip: Path, scratch: Path) -> Row:
    """CPU of the command, user and system; without a packaged model that of the run in ONNX."""
    packaged = DEFAULT in packaged_models()
    model = DEFAULT if packaged else export_onnx(run, scratch / "predict-onnx", card="")
    command = [sys.executable, "-m", "ser_tf", "predict", "--model", str(model), str(clip)]
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    what = "packaged model" if packaged else "random weights in ONNX"
    ratio = Ratio.of(np.array(seconds), COLD_CPU_SECONDS, f"the bound of {COLD_CPU_SECONDS} s")
    return Row(f"cold: ser-tf predict clip.wav, {what}", np.median(seconds), "CPU s", ratio)
