"""`python -m benchmarks.parity RUN CORPUS ...`: answers of a run and of its exports in all engines."""

import dataclasses
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import tyro

from benchmarks.engines import (
    ENGINES,
    LITERT_INT8,
    SAVED_MODEL,
    Arrays,
    Engine,
    answers_of,
    load_engine,
    padded,
    saved_model,
    write_exports,
)
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError

BATCH = 8
C_CLIENT = Path(__file__).parents[1] / "tests" / "predict.c"

Answer = Callable[[list[np.ndarray]], Arrays]
"""Waveforms -> answers, in the same order."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print, per corpus and engine, how far its answers differ from those of the live Python line."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    corpora: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of RAVDESS or CREMA-D, or tables; the first is the run's own and calibrates int8."""
    recordings: int = 200
    """Number per corpus; always the same random sample."""
    test_side: bool = False
    """Use all recordings of the run's test speakers instead, and also print UAR."""


def main(arguments: Arguments) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from ser_tf.audio.waveform import read_waveform
    from ser_tf.runs.folder import RunFolder
    from ser_tf.serving.predict import load_run

    live = load_run(arguments.run)
    corpora = [open_corpus(path) for path in arguments.corpora]
    drawn = {corpus.name: _drawn(corpus, arguments.recordings) for corpus in corpora}
    if arguments.test_side:
        speakers = RunFolder(arguments.run).read_identity()["test_speakers"]
        own = corpora[0]
        drawn = {own.name: [utterance for utterance in own.utterances if utterance.speaker in speakers]}
    spread = ("largest difference", "median", "99th percentile")
    head = ["corpus", "recordings", "engine", "same emotion"]
    head += [f"{what}, {how}" for what in ("probability", "embedding") for how in spread]
    head += ["other speech", *["UAR, %"] * arguments.test_side]
    print("|", " | ".join(head), "|")
    print("|---" * len(head) + "|")
    with tempfile.TemporaryDirectory() as folder:
        exports = Path(folder)
        write_exports(arguments.run, exports, corpora[0])
        engines = engines_of(exports, live.config)
        for name, utterances in drawn.items():
            waveforms = [read_waveform(utterance.path) for utterance in utterances]
            expected = _live_answers([live(waveform, SAMPLE_RATE_HZ) for waveform in waveforms])
            for engine, answer in engines.items():
                found = answer(waveforms)
                found.setdefault("emotion", np.array(live.emotions)[found["probabilities"].argmax(axis=1)])
                cells = _cells(expected, found)
                if arguments.test_side:
                    cells += f" | {_uar(utterances, expected):.1f} -> {_uar(utterances, found):.1f}"
                print(f"| {name} | {len(utterances)} | {engine} | {cells} |", flush=True)


def engines_of(exports: Path, config: Config) -> dict[str, Answer]:
    """Every engine, by its name in the table."""
    version = exports / "saved" / "1"
    signatures = saved_model(version)
    loaded = {name: load_engine(name, exports) for name in ENGINES if name != SAVED_MODEL}
    batch_of = {name: 1 if name == LITERT_INT8 else BATCH for name in loaded}
    together = f"{BATCH} at a time"
    speech = partial(answers_of, "SavedModel, `speech`", signatures["speech"], config=config)
    return {
        "SavedModel, `serving_default`": partial(_each, lambda one: signatures["serving_default"](waveform=one[None])),
        f"SavedModel, `padded`, {together}": partial(_batches, lambda some: signatures["padded"](**padded(some))),
        f"SavedModel, `speech` after py-webrtcvad, {together}": partial(_batches, speech),
        "TensorFlow's C API, `serving_default`": partial(_ask_c_client, version),
        "Predict requests, encoded and decoded": partial(_each, partial(_ask_by_request, signatures["padded"])),
        **{
            f"{name}, {batch_of[name]} at a time": partial(
                _batches, partial(answers_of, name, engine, config=config), size=batch_of[name]
            )
            for name, engine in loaded.items()
        },
    }


def _drawn(corpus: Corpus, count: int) -> list[Utterance]:
    return random.Random(0).sample(corpus.utterances, min(count, len(corpus.utterances)))


def _live_answers(predictions: list) -> Arrays:
    return {
        "emotion": np.array([prediction.emotion for prediction in predictions]),
        "probabilities": np.array([list(prediction.probabilities.values()) for prediction in predictions]),
        "embedding": np.array([prediction.embedding for prediction in predictions]),
        "speech_seconds": np.array([prediction.speech_seconds for prediction in predictions]),
    }


def _batches(answer: Answer, waveforms: list[np.ndarray], size: int = BATCH) -> Arrays:
    return _joined([answer(waveforms[start : start + size]) for start in range(0, len(waveforms), size)])


def _each(answer: Callable[[np.ndarray], Arrays], waveforms: list[np.ndarray]) -> Arrays:
    return _joined([answer(waveform) for waveform in waveforms])


def _joined(answers: list[Arrays]) -> Arrays:
    names = answers[0].keys() - {"ghost_share"}  # its width depends on the batch
    return {name: np.concatenate([answer[name] for answer in answers]) for name in names}


def _ask_c_client(version: Path, waveforms: list[np.ndarray]) -> Arrays:
    """Let one process of tests/predict.c load the SavedModel and answer all recordings."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    if shutil.which("cc") is None:
        raise UserError("parity: expected a C compiler, cc, for the client of TensorFlow's C API; install one")
    graph = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs[0]
    signature = graph.signature_def["serving_default"]
    wanted = ("emotion", "probabilities", "embedding", "speech_seconds", "problem")
    outputs = [signature.outputs[name].name for name in wanted]
    library = tf.sysconfig.get_lib()
    libraries = [f"-L{library}", "-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2", f"-Wl,-rpath,{library}"]
    with tempfile.TemporaryDirectory() as folder:
        client = Path(folder, "predict")
        subprocess.run(["cc", f"-I{tf.sysconfig.get_include()}", C_CLIENT, "-o", client, *libraries], check=True)
        files = [Path(folder, str(number)) for number in range(len(waveforms))]
        for file, waveform in zip(files, waveforms, strict=True):
            waveform.tofile(file)
        command = [client, version, signature.inputs["waveform"].name, *outputs, "--", *files]
        lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split("\n")
    found = {name: lines[place : len(wanted) * len(waveforms) : len(wanted)] for place, name in enumerate(wanted)}
    numbers = {name: np.array([np.array(line.split(), float) for line in found[name]]) for name in wanted[1:3]}
    words = {name: np.array(found[name]) for name in ("emotion", "problem")}
    return {**words, **numbers, "speech_seconds": np.array(found["speech_seconds"], float)}


def _ask_by_request(signature: Engine, waveform: np.ndarray) -> Arrays:
    """Encode and decode a Predict request and its response, without a server."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request, response = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
    for name, values in padded([waveform]).items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values))
    arrived = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    answers = signature(**{name: tf.make_ndarray(proto) for name, proto in arrived.inputs.items()})
    for name, values in answers.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(values))
    returned = predict_pb2.PredictResponse.FromString(response.SerializeToString())
    return {name: tf.make_ndarray(proto) for name, proto in returned.outputs.items()}


def _words(values: np.ndarray) -> np.ndarray:
    """Bytes or strings as strings."""
    return np.array([value.decode() if isinstance(value, bytes) else str(value) for value in values])


def _cells(expected: Arrays, found: Arrays) -> str:
    assert not any(_words(found.get("problem", np.array([])))), found["problem"]
    same = np.mean(_words(found["emotion"]) == expected["emotion"])
    spread = " | ".join(_spread(found[name] - expected[name]) for name in ("probabilities", "embedding"))
    other = "-"
    if "speech_seconds" in found:
        other = f"{np.mean(np.abs(found['speech_seconds'] - expected['speech_seconds']) > 1e-5):.2%}"
    return f"{same:.2%} | {spread} | {other}"


def _spread(differences: np.ndarray) -> str:
    """Maximum, median and 99th percentile over recordings of each one's largest difference."""
    largest = np.abs(differences).max(axis=1)
    return f"{largest.max():.1e} | {np.median(largest):.1e} | {np.quantile(largest, 0.99):.1e}"


def _uar(utterances: list[Utterance], found: Arrays) -> float:
    from ser_tf.metrics import unweighted_average_recall

    truth = [utterance.emotion for utterance in utterances]
    places = {emotion: place for place, emotion in enumerate(sorted({*truth, *_words(found["emotion"])}))}
    sides = (np.array([places[emotion] for emotion in side]) for side in (truth, _words(found["emotion"])))
    return 100 * unweighted_average_recall(*sides)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except UserError as error:
        sys.exit(f"parity: {error}")
