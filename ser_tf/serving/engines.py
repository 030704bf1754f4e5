"""Export a finished run to ONNX or LiteRT: speech in, emotion out.

These engines lack operations that the silence removal of `audio.vad_graph` needs (docs/serving.md lists them), so their
input is speech without silence.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import tensorflow as tf

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.config import Config, SpectrogramConfig
from ser_tf.corpora.corpus import Corpus
from ser_tf.errors import UserError, import_extra
from ser_tf.network.se_resnet import descriptor_count
from ser_tf.pipeline import SpeechFile, prepare_speech
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.lock import alone_in
from ser_tf.serving.export import full_disk_explained, require_tensorflow, write_assets
from ser_tf.serving.export_folder import ONNX, UNFINISHED
from ser_tf.serving.line_graph import LENGTH, WAVEFORM, Tensors, probabilities_of
from ser_tf.serving.predict import Recogniser, load_run

LITERT = "emotion.tflite"
LITERT_FLOAT16 = "emotion-float16.tflite"
"""Weights in float16, arithmetic in float32."""
LITERT_INT8 = "network-int8.tflite"

SPEECH = "speech"
"""LiteRT signature of the line from speech on."""
NETWORK = "network"
"""LiteRT signature of the network without the spectrogram."""

Calibration = Callable[[], Iterator[tuple[str, Tensors]]]
"""Input of the int8 converter: signature names and their inputs."""

ONNX_OPSET = 18
CALIBRATION_RECORDINGS = 100


class PortableLine:
    """The line of a run from speech on, in float32 and in operations that ONNX and LiteRT support.

    Outputs for B recordings: `probabilities` [B, C] in label order, `embedding` [B, K*D] of unit norm, `ghost_share`
    [B, M], 0 beyond a recording's own descriptors, and `descriptors` int32 [B], the number of these.

    Attributes:
        variables: variables that a saved model of the functions must contain.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._config = recogniser.config
        self._features = recogniser.features
        self._probabilities, own = probabilities_of(recogniser.classifier, tf.float32)
        self.variables = [*(variable.value for variable in recogniser.features.variables), *own]

    def of_speech(self, waveform: tf.Tensor, length: tf.Tensor) -> Tensors:
        """Outputs for speech, float32 [B, N] in [-1, 1] at 16 kHz, of `length` int32 [B] samples each."""
        length = tf.clip_by_value(length, 0, tf.shape(waveform)[1])
        values, frames = spectrogram(waveform, length, self._config.spectrogram, portable=True)
        return self._answers(values, frames)

    def of_spectrogram(self, spectrogram: tf.Tensor) -> Tensors:
        """Outputs for spectrograms without padding, float32 [B, T, bins]."""
        batch, frames, _ = tf.unstack(tf.shape(spectrogram))
        return self._answers(spectrogram, tf.fill([batch], frames))

    def _answers(self, values: tf.Tensor, frames: tf.Tensor) -> Tensors:
        outputs = self._features({"spectrogram": values, "frames": frames}, training=False)
        return {
            "probabilities": self._probabilities(outputs),
            **{name: outputs[name] for name in ("embedding", "ghost_share")},
            "descriptors": descriptor_count(frames, self._config.network),
        }


def export_onnx(run: Path, folder: Path, card: str) -> Path:
    """Write a run as `emotion.onnx`, with the assets of an export, into a new folder.

    Args:
        run: folder of a finished run.
        folder: the new folder; it appears when it is complete.
        card: the model card, in Markdown.

    Returns:
        The folder.

    Raises:
        UserError: tf2onnx is missing; Keras does not run on TensorFlow; the run cannot be loaded; `folder` exists; or
            a different export is writing it.
    """
    _converter()
    require_tensorflow()
    with _new_folder(folder) as unfinished:
        recogniser = load_run(run, policy="float32")
        card += _files_in_words(f"`{ONNX}` computes in float32")
        write_assets(recogniser.emotions, RunFolder(run), card, unfinished)
        (unfinished / ONNX).write_bytes(onnx_of(recogniser).SerializeToString())
    return folder


def onnx_of(recogniser: Recogniser) -> Any:
    """The line of a run from speech on as an `onnx.ModelProto`.

    Raises:
        UserError: tf2onnx is missing.
    """
    converter = _converter()
    from onnx.helper import set_model_props

    signature = [WAVEFORM, LENGTH]
    function = tf.function(PortableLine(recogniser).of_speech, input_signature=signature, autograph=False)
    model, _ = converter.convert.from_function(function, signature, opset=ONNX_OPSET)
    set_model_props(model, {"labels": "\n".join(recogniser.emotions)})
    return model


def _converter() -> Any:
    return import_extra("tf2onnx", "export to ONNX needs tf2onnx", "onnx")


def calibration_speech(run: Path, corpus: Corpus) -> tuple[SpeechFile, ...]:
    """Draw recordings of a run's training speakers, always the same ones.

    Args:
        run: folder of a finished run.
        corpus: the run's corpus.

    Returns:
        The readable ones of `CALIBRATION_RECORDINGS`; a warning names each of the others.

    Raises:
        UserError: the folder is no finished run, or the corpus has none of its training speakers.
    """
    folder = RunFolder(run)
    folder.require_finished()
    speakers = set(folder.read_identity()["train_speakers"])
    utterances = [utterance for utterance in corpus.utterances if utterance.speaker in speakers]
    if not utterances:
        raise UserError(
            f"{corpus.root}: expected recordings of the speakers that the run was trained on, such as {min(speakers)}; "
            "give the corpus of the run"
        )
    drawn = random.Random(0).sample(utterances, min(CALIBRATION_RECORDINGS, len(utterances)))
    return prepare_speech(drawn, Config.load(folder.config)).items


def export_litert(run: Path, folder: Path, card: str, calibrate_on: Corpus | None = None) -> Path:
    """Write a run for LiteRT, with the assets of an export, into a new folder.

    `emotion.tflite` and `emotion-float16.tflite`, whose weights are float16, hold the line from speech on, signature
    `speech`. With a corpus there is also `network-int8.tflite`, signature `network`: network and classifier in 8-bit
    integers, from one spectrogram [1, T, bins].

    Args:
        run: folder of a finished run.
        folder: the new folder; it appears when it is complete.
        card: the model card, in Markdown.
        calibrate_on: the run's corpus; its `calibration_speech` sets the ranges of the 8-bit integers.

    Returns:
        The folder.

    Raises:
        UserError: Keras does not run on TensorFlow; the run cannot be loaded; `folder` exists; a different export is
            writing it; or the corpus is not that of the run.
    """
    require_tensorflow()
    with _new_folder(folder) as unfinished:
        calibration = () if calibrate_on is None else calibration_speech(run, calibrate_on)
        recogniser = load_run(run, policy="float32")
        line = PortableLine(recogniser)
        files = [f"`{LITERT}` computes in float32", f"`{LITERT_FLOAT16}` has its weights rounded to float16"]
        if calibration:
            files.append(f"`{LITERT_INT8}` is the network without the spectrogram, in 8-bit integers")
        write_assets(recogniser.emotions, RunFolder(run), card + _files_in_words(*files), unfinished)
        speech = line.of_speech, [WAVEFORM, LENGTH], SPEECH
        (unfinished / LITERT).write_bytes(_litert(line, *speech))
        (unfinished / LITERT_FLOAT16).write_bytes(_litert(line, *speech, float16=True))
        if calibration:
            config = recogniser.config.spectrogram
            network = line.of_spectrogram, [tf.TensorSpec([1, None, config.bins], tf.float32, "spectrogram")], NETWORK
            spectrograms = partial(_spectrograms, calibration, config)
            (unfinished / LITERT_INT8).write_bytes(_litert(line, *network, calibration=spectrograms))
    return folder


def _files_in_words(*files: str) -> str:
    """Section of the model card for models that take speech and may compute in a different precision."""
    return (
        f"\n## Files beside this card\n\n{'; '.join(files)}. Silence must be removed first, as `vad` of `config.yaml` "
        "says. The scores above are those of the run as it was trained; for these files they were not measured.\n"
    )


def _litert(
    line: PortableLine,
    function: Callable[..., Tensors],
    inputs: list[tf.TensorSpec],
    name: str,
    *,
    float16: bool = False,
    calibration: Calibration | None = None,
) -> bytes:
    """Convert a function of the line to LiteRT's built-in operations, as one signature."""
    saved = tf.Module()
    saved.line_variables = line.variables
    traced = tf.function(function, input_signature=inputs, autograph=False).get_concrete_function()
    with tempfile.TemporaryDirectory() as staging:
        tf.saved_model.save(saved, staging, signatures={name: traced})
        converter = tf.lite.TFLiteConverter.from_saved_model(staging, signature_keys=[name])
        if float16 or calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if float16:
            converter.target_spec.supported_types = [tf.float16]
        if calibration is not None:
            converter.representative_dataset = calibration
        return converter.convert()


def _spectrograms(speech: Sequence[SpeechFile], config: SpectrogramConfig) -> Iterator[tuple[str, Tensors]]:
    for file in speech:
        values, _ = spectrogram(file.waveform[None], [file.samples], config)
        yield NETWORK, {"spectrogram": values}


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder in `unfinished-NAME` beside `folder`; move it to `folder` if the block succeeds.

    Other exports may write to the parent, so the lock is on a folder of its own, in which the new one is written.
    """
    _require_new(folder)
    workplace = folder.with_name(f"{UNFINISHED}{folder.name}")
    workplace.mkdir(parents=True, exist_ok=True)
    try:
        with alone_in(workplace):
            _require_new(folder)  # a different export may just have finished it
            unfinished = workplace / folder.name
            shutil.rmtree(unfinished, ignore_errors=True)  # of a killed export
            unfinished.mkdir()
            try:
                with full_disk_explained(folder):
                    yield unfinished
                unfinished.rename(folder)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
    finally:
        with suppress(OSError):  # another export is at work in it
            workplace.rmdir()


def _require_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder}: expected a new folder. Received: one that exists; choose another, or remove it")
