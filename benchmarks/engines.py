"""Serving engines against the live Python line: speed, cold start and peak memory.

Each goes from waveforms of 3 s to probabilities. The SavedModel removes silence itself; for the others Python does, as
in the live line. The network is `compact` with random weights and an SVM.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process, take_turns
from benchmarks.memory import peak
from benchmarks.recordings import write_clip
from ser_tf.audio.vad import as_int16, remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SAMPLE_RATE_HZ, Config, preset
from ser_tf.corpora.corpus import Corpus

Arrays = dict[str, np.ndarray]
Engine = Callable[..., Arrays]
"""Batched inputs of a signature, by name -> its outputs."""

SECONDS = 3
BATCHES = (1, 8, 32)
TURNS = 3

LIVE = "live Python line"
SAVED_MODEL = "SavedModel, `padded`"
ONNX_RUNTIME = "onnxruntime"
OPEN_VINO = "OpenVINO"
LITERT = "LiteRT float32"
LITERT_FLOAT16 = "LiteRT float16"
LITERT_INT8 = "LiteRT int8, network alone"
ENGINES = (SAVED_MODEL, ONNX_RUNTIME, OPEN_VINO, LITERT, LITERT_FLOAT16, LITERT_INT8)
TIMED = tuple(name for name in ENGINES if name != LITERT_INT8)
"""LiteRT's XNNPACK refuses the int8 network with random weights, even with fitted batch normalisation statistics."""


def write_exports(run: Path, folder: Path, corpus: Corpus) -> None:
    """Write every export of a run; `corpus` calibrates its int8 network."""
    from ser_tf.serving.engines import export_litert, export_onnx
    from ser_tf.serving.export import export

    export(run, folder / "saved", "")
    export_onnx(run, folder / "onnx", "")
    export_litert(run, folder / "litert", "", corpus)


def load_engine(name: str, folder: Path) -> Engine:
    """One of `ENGINES`, from the exports in a folder."""
    if name == SAVED_MODEL:
        return saved_model(folder / "saved" / "1")["padded"]
    if name == ONNX_RUNTIME:
        return _onnx_runtime(folder / "onnx" / "emotion.onnx")
    if name == OPEN_VINO:
        return _open_vino(folder / "onnx" / "emotion.onnx")
    files = {LITERT: "emotion", LITERT_FLOAT16: "emotion-float16", LITERT_INT8: "network-int8"}
    return _litert(folder / "litert" / f"{files[name]}.tflite")


def saved_model(version: Path) -> dict[str, Engine]:
    """The signatures of a SavedModel."""
    import tensorflow as tf

    saved = tf.saved_model.load(str(version))

    def answer(signature: str, **inputs: np.ndarray) -> Arrays:
        outputs = saved.signatures[signature](**{name: tf.constant(values) for name, values in inputs.items()})
        return {name: values.numpy() for name, values in outputs.items()}

    return {signature: partial(answer, signature) for signature in saved.signatures}


def _onnx_runtime(path: Path) -> Engine:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    return lambda **inputs: dict(zip(names, session.run(names, inputs), strict=True))


def _open_vino(path: Path) -> Engine:
    import openvino

    model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda **inputs: {output.any_name: values for output, values in model(inputs).items()}


def _litert(path: Path) -> Engine:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(str(path), num_threads=len(os.sched_getaffinity(0))).get_signature_runner()


def padded(waveforms: list[np.ndarray]) -> Arrays:
    """A batch of waveforms of different lengths as inputs."""
    lengths = np.array([len(waveform) for waveform in waveforms], np.int32)
    rows = [np.pad(waveform, (0, lengths.max() - len(waveform))) for waveform in waveforms]
    return {"waveform": np.stack(rows), "length": lengths}


def answers_of(name: str, engine: Engine, waveforms: list[np.ndarray], config: Config) -> Arrays:
    """The engine's answers to a batch of whole recordings."""
    if name == SAVED_MODEL:
        return engine(**padded(waveforms))
    speech = [remove_silence(waveform, config.vad).waveform for waveform in waveforms]
    if name != LITERT_INT8:
        return engine(**padded(speech))
    from ser_tf.pipeline import inputs_of

    inputs = [inputs_of(each, config) for each in speech]
    answers = [engine(spectrogram=each["spectrogram"][:, : int(each["frames"][0])]) for each in inputs]
    return {output: np.concatenate([answer[output] for answer in answers]) for output in ("probabilities", "embedding")}


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    run, exports, clip = scratch / "engines-run", scratch / "engines", scratch / "engines.wav"
    in_new_process(_write, run, exports, corpus)
    write_clip(clip, corpus, SECONDS)
    yield in_new_process(_measure_silence_removal, clip)
    yield from in_new_process(_measure_speed, run, exports, corpus)

    seconds, megabytes = {}, {}
    for name in (LIVE, *TIMED):
        peaks: list[float] = []
        (seconds[name],) = take_turns(
            lambda name=name, peaks=peaks: peaks.append(peak(_answer_once, name, run, exports, clip)),
            at_least=TURNS,
            warm_up=False,
        )
        megabytes[name] = np.array(peaks)
    for what, unit, values in (("cold start", "s", seconds), ("peak memory", "MB", megabytes)):
        for name, found in values.items():
            ratio = None if name == LIVE else Ratio.of(found, values[LIVE], "live")
            yield Row(f"{name}, {what}", float(np.median(found)), unit, ratio)


def _write(run: Path, exports: Path, corpus: Corpus) -> None:
    from benchmarks.networks import write_run

    speakers = sorted({utterance.speaker for utterance in corpus.utterances})
    write_run(run, preset("compact"), {"train_speakers": speakers})
    write_exports(run, exports, corpus)


def _measure_silence_removal(clip: Path) -> Row:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before TensorFlow counts cores
    import tensorflow as tf

    from ser_tf.audio.vad_graph import remove_silence_in_graph

    config = preset("compact").vad
    waveform = read_waveform(clip)
    in_graph = tf.function(lambda samples: remove_silence_in_graph(samples, tf.shape(samples)[1:], config))
    samples = tf.constant(as_int16(waveform)[None])
    webrtc_seconds, seconds = take_turns(
        lambda: remove_silence(waveform, config), lambda: in_graph(samples)[0].numpy(), at_least=5, seconds=3
    )
    ratio = Ratio.of(seconds, webrtc_seconds, "py-webrtcvad")
    return Row("silence removal in the graph, one core", 1000 * float(np.median(seconds)), "ms", ratio)


def _measure_speed(run: Path, exports: Path, corpus: Corpus) -> list[Row]:
    import ser_tf

    live = ser_tf.load(run)
    drawn = [read_waveform(utterance.path) for utterance in corpus.utterances[: max(BATCHES)]]
    clips = [np.resize(waveform, SECONDS * SAMPLE_RATE_HZ) for waveform in drawn]
    rows = []
    for name in TIMED:
        engine = load_engine(name, exports)
        for size in BATCHES:
            batch = [clips[number % len(clips)] for number in range(size)]
            live_seconds, seconds = take_turns(
                lambda batch=batch: [live(waveform, SAMPLE_RATE_HZ) for waveform in batch],
                lambda batch=batch, engine=engine, name=name: answers_of(name, engine, batch, live.config),
                at_least=5,
                seconds=3,
            )
            latency, ratio = float(np.median(seconds)), Ratio.of(live_seconds, seconds, "live")
            rows.append(Row(f"{name}, batch {size}", size / latency, "rec/s", ratio))
            rows.append(Row(f"{name}, batch {size}, latency", 1000 * latency, "ms"))
    return rows


def _answer_once(name: str, run: Path, exports: Path, clip: Path) -> None:
    """Answer as a new serving process would, importing only what this engine needs."""
    if name == LIVE:
        import ser_tf

        ser_tf.load(run)(clip)
        return
    config = Config.load(run / "config.yaml")
    answers_of(name, load_engine(name, exports), [read_waveform(clip)], config)
