"""Name the emotion of a recording with a model in ONNX: silence removal here, all else in its graph. No TensorFlow."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ser_tf.audio.vad import MAXIMUM_SPEECH_SECONDS, Speech, remove_silence
from ser_tf.config import SAMPLE_RATE_HZ, Config
from ser_tf.errors import UserError, shortened
from ser_tf.serving.export_folder import CONFIG, LABELS, ONNX
from ser_tf.serving.recognition import AnyRecogniser, Prediction, refuse_fork

INPUTS = {"waveform", "length"}
OUTPUTS = ("probabilities", "embedding", "ghost_share")
COUNT = "descriptors"
"""The number of a recording's own ghost shares; exports of older versions lack it."""
BATCH_SAMPLES = MAXIMUM_SPEECH_SECONDS * SAMPLE_RATE_HZ
"""Padded samples of one batch: it takes no more memory than the longest recording alone."""


class OnnxRecogniser(AnyRecogniser):
    """A model in ONNX, used like a `Recogniser`; onnxruntime computes it.

    Args:
        path: the model, for messages.
        model: its content.
        emotions: of its probabilities, in their order.
        config: of the run that it was made from.
        remedy: the end of the message about a model that is damaged.

    Raises:
        UserError: it is damaged, or no such model.
    """

    def __init__(self, path: Path, model: bytes, emotions: tuple[str, ...], config: Config, remedy: str) -> None:
        super().__init__(str(path), emotions, config)
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its errors are raised as well
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads would burn CPU
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            self._counts = _check_interface(self._session, len(emotions))
        except Exception as error:
            reason = shortened(" ".join(f"{type(error).__name__}: {error}".split()))
            raise UserError(f"{path}: expected a model in ONNX written by ser-tf; {reason}; {remedy}") from error

    @classmethod
    def of_export(cls, folder: Path) -> "OnnxRecogniser":
        """Load what `ser-tf export --format onnx` wrote.

        Raises:
            UserError: a file is missing or damaged.
        """
        remedy = "export again"
        try:
            emotions = tuple((folder / LABELS).read_text(encoding="utf-8").splitlines())
            model = (folder / ONNX).read_bytes()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{folder}: expected an export to ONNX; {' '.join(str(error).split())}; {remedy}"
            ) from error
        return cls(folder / ONNX, model, emotions, Config.load(folder / CONFIG), remedy)

    def of_waveforms(self, waveforms: Iterable[tuple[str, np.ndarray]]) -> Iterator[Prediction]:
        """Waveform -> speech -> embedding and emotion, in batches of recordings that follow each other."""
        batch: list[Speech] = []
        for name, waveform in waveforms:
            speech = remove_silence(waveform, self.config.vad, name)
            longest = max(len(other.samples) for other in (*batch, speech))
            if batch and (not self._counts or (len(batch) + 1) * longest > BATCH_SAMPLES):
                yield from self._of_speech(batch)
                batch = []
            batch.append(speech)
        if batch:
            yield from self._of_speech(batch)

    def _of_speech(self, batch: list[Speech]) -> Iterator[Prediction]:
        refuse_fork(self._process)
        lengths = np.array([len(speech.samples) for speech in batch], np.int32)
        padded = np.zeros((len(batch), lengths.max()), np.float32)
        for row, speech in zip(padded, batch, strict=True):
            row[: len(speech.samples)] = speech.waveform
        names = (*OUTPUTS, COUNT) if self._counts else OUTPUTS
        rows = zip(*self._session.run(names, {"waveform": padded, "length": lengths}), strict=True)
        for length, (distribution, embedding, ghost_share, *count) in zip(lengths.tolist(), rows, strict=True):
            own = ghost_share[: count[0]] if count else ghost_share
            yield Prediction.of(self.emotions, distribution, length / SAMPLE_RATE_HZ, embedding, own)


def _check_interface(session: Any, emotions: int) -> bool:
    """Whether the model counts descriptors; raise a ValueError that tells what else it lacks."""
    inputs = {value.name for value in session.get_inputs()}
    outputs = {value.name: value.shape for value in session.get_outputs()}
    if inputs != INPUTS or not outputs.keys() >= set(OUTPUTS):
        raise ValueError(
            f"inputs {', '.join(sorted(inputs))} and outputs {', '.join(sorted(outputs))} in place of "
            f"{', '.join(sorted(INPUTS))} and {', '.join(sorted(OUTPUTS))}"
        )
    shape = outputs["probabilities"]
    if len(shape) != 2 or shape[1] != emotions:
        raise ValueError(f"probabilities of shape {shape} for {emotions} emotions")
    return COUNT in outputs
