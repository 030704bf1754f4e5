"""A finished run for other engines: speech in, emotion out, as ONNX or LiteRT.

They have no operations for the silence removal of `audio.vad_graph` (docs/serving.md says which are missing), so what
they take is speech.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tensorflow as tf

from ser_tf.audio.spectrogram import spectrogram
from ser_tf.config import Config, SpectrogramConfig
from ser_tf.corpora.corpus import Corpus
from ser_tf.errors import UserError, import_extra
from ser_tf.pipeline import SpeechFile, prepare_speech
from ser_tf.runs.folder import RunFolder
from ser_tf.runs.lock import alone_in
from ser_tf.serving.export import full_disk_explained, require_tensorflow, write_assets
from ser_tf.serving.line_graph import LENGTH, WAVEFORM, Tensors, probabilities_of
from ser_tf.serving.predict import UNFINISHED, Recogniser, load_run

ONNX = "emotion.onnx"
LITERT = "emotion.tflite"
LITERT_FLOAT16 = "emotion-float16.tflite"
"""The weights are float16, the arithmetic is float32."""
LITERT_INT8 = "network-int8.tflite"

SPEECH = "speech"
"""Signature of LiteRT's line."""
NETWORK = "network"
"""Signature of LiteRT's network alone."""

Calibration = Callable[[], Iterator[tuple[str, Tensors]]]
"""What the int8 converter hears: the name of a signature, and its inputs."""

ONNX_OPSET = 18
CALIBRATION_RECORDINGS = 100


class PortableLine:
    """The line of a run from speech on, in float32 and in operations that ONNX and LiteRT have.

    Answers hold, for each of the B recordings, `probabilities` [B, C] in the order of the labels, `embedding` [B, K*D]
    of unit norm, and `ghost_share` [B, M], 0 beyond a recording's own descriptors.

    Attributes:
        variables: what the functions need, for whoever saves them.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self._config = recogniser.config.spectrogram
        self._features = recogniser.features
        self._probabilities, own = probabilities_of(recogniser.classifier, tf.float32)
        self.variables = [*(variable.value for variable in recogniser.features.variables), *own]

    def of_speech(self, waveform: tf.Tensor, length: tf.Tensor) -> Tensors:
        """The answers to speech, float32 [B, N] in [-1, 1] at 16 kHz, of `length` int32 [B] samples each."""
        length = tf.clip_by_value(length, 0, tf.shape(waveform)[1])
        values, frames = spectrogram(waveform, length, self._config, portable=True)
        return self._answers(values, frames)

    def of_spectrogram(self, spectrogram: tf.Tensor) -> Tensors:
        """The answers to spectrograms without padding, float32 [B, T, bins]."""
        batch, frames, _ = tf.unstack(tf.shape(spectrogram))
        return self._answers(spectrogram, tf.fill([batch], frames))

    def _answers(self, values: tf.Tensor, frames: tf.Tensor) -> Tensors:
        outputs = self._features({"spectrogram": values, "frames": frames}, training=False)
        return {
            "probabilities": self._probabilities(outputs),
            **{name: outputs[name] for name in ("embedding", "ghost_share")},
        }


def export_onnx(run: Path, folder: Path, card: str) -> Path:
    """Write `emotion.onnx` of a run and what an export says of itself, into a new folder.

    Args:
        run: folder of a finished run.
        folder: the new folder; it appears when all in it is whole.
        card: the model card, in Markdown.

    Returns:
        The folder.

    Raises:
        UserError: tf2onnx is missing; Keras runs on another backend; the run cannot be loaded; or `folder` exists, or
            another export is writing it.
    """
    converter = import_extra("tf2onnx", "export to ONNX needs tf2onnx", "onnx")
    from onnx.helper import set_model_props

    require_tensorflow()
    with _new_folder(folder) as unfinished:
        recogniser = load_run(run, policy="float32")
        line = PortableLine(recogniser)
        card += _files_in_words(f"`{ONNX}` computes in float32")
        write_assets(recogniser.emotions, RunFolder(run), card, unfinished)
        signature = [WAVEFORM, LENGTH]
        function = tf.function(line.of_speech, input_signature=signature, autograph=False)
        model, _ = converter.convert.from_function(function, signature, opset=ONNX_OPSET)
        set_model_props(model, {"labels": "\n".join(recogniser.emotions)})
        (unfinished / ONNX).write_bytes(model.SerializeToString())
    return folder


def calibration_speech(run: Path, corpus: Corpus) -> tuple[SpeechFile, ...]:
    """Recordings of the speakers that a run was trained on, drawn at random but always the same.

    Args:
        run: folder of a finished run.
        corpus: that of the run.

    Returns:
        Those that can be read of `CALIBRATION_RECORDINGS`; a warning names each other one.

    Raises:
        UserError: the folder is no finished run, or the corpus has none of its training speakers.
    """
    folder = RunFolder(run)
    folder.require_finished()
    speakers = set(folder.read_identity()["train_speakers"])
    utterances = [utterance for utterance in corpus.utterances if utterance.speaker in speakers]
    if not utterances:
        raise UserError(
            f"{corpus.root}: expected recordings of the speakers that the run was trained on, as {min(speakers)}; give "
            "the corpus of the run"
        )
    drawn = random.Random(0).sample(utterances, min(CALIBRATION_RECORDINGS, len(utterances)))
    return prepare_speech(drawn, Config.load(folder.config)).items


def export_litert(run: Path, folder: Path, card: str, calibrate_on: Corpus | None = None) -> Path:
    """Write a run for LiteRT, and what an export says of itself, into a new folder.

    The line from speech on is `emotion.tflite`, and `emotion-float16.tflite` with its weights in float16; both have the
    signature `speech`. With a corpus there is also `network-int8.tflite`, signature `network`: the network and its
    classifier alone, from one spectrogram [1, T, bins], in 8-bit integers.

    Args:
        run: folder of a finished run.
        folder: the new folder; it appears when all in it is whole.
        card: the model card, in Markdown.
        calibrate_on: the run's corpus, whose `calibration_speech` tells the ranges of the 8-bit integers.

    Returns:
        The folder.

    Raises:
        UserError: Keras runs on another backend; the run cannot be loaded; `folder` exists, or another export is
            writing it; or the corpus is not that of the run.
    """
    require_tensorflow()
    with _new_folder(folder) as unfinished:
        calibration = () if calibrate_on is None else calibration_speech(run, calibrate_on)
        recogniser = load_run(run, policy="float32")
        line = PortableLine(recogniser)
        files = [f"`{LITERT}` computes in float32", f"`{LITERT_FLOAT16}` has its weights rounded to float16"]
        if calibration:
            files.append(f"`{LITERT_INT8}` is the network alone, in 8-bit integers")
        write_assets(recogniser.emotions, RunFolder(run), card + _files_in_words(*files), unfinished)
        speech = line.of_speech, [WAVEFORM, LENGTH], SPEECH
        (unfinished / LITERT).write_bytes(_litert(line, *speech))
        (unfinished / LITERT_FLOAT16).write_bytes(_litert(line, *speech, float16=True))
        if calibration:
            config = recogniser.config.spectrogram
            network = line.of_spectrogram, [tf.TensorSpec([1, None, config.bins], tf.float32, "spectrogram")], NETWORK
            heard = partial(_spectrograms, calibration, config)
            (unfinished / LITERT_INT8).write_bytes(_litert(line, *network, calibration=heard))
    return folder


def _files_in_words(*files: str) -> str:
    """What a model card has to add where the silence is not removed and the arithmetic may be another."""
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
    """A function of the line in LiteRT's own operations, as one signature of that name."""
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
    """A folder of another name beside it, which takes its name when the block has ended well.

    Whoever writes it holds it, and not their parent, where other exports may be at work; so what is in it when it is
    taken hold of was left by a kill.
    """
    _require_new(folder)
    unfinished = folder.with_name(f"{UNFINISHED}{folder.name}")
    unfinished.mkdir(parents=True, exist_ok=True)
    with alone_in(unfinished):
        try:
            _require_new(folder)  # another may have given it its name just before
            for left in unfinished.iterdir():
                left.unlink()
            with full_disk_explained(folder):
                yield unfinished
            unfinished.rename(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _require_new(folder: Path) -> None:
    if folder.exists():
        raise UserError(f"{folder}: expected a new folder. Received: one that exists; choose another, or remove it")
