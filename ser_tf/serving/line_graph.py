"""The whole line as a TensorFlow graph: waveform -> speech -> spectrogram -> embedding -> emotion.

The same steps as `Recogniser.of_waveforms`, in TensorFlow operations, for batches of recordings of different lengths.
The outputs for a recording do not depend on the rest of its batch.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from ser_tf.audio.checks import LARGEST_LEVEL, MAXIMUM_RECORDING_SECONDS, MINIMUM_SAMPLES, SILENT_LEVEL
from ser_tf.audio.spectrogram import spectrogram
from ser_tf.audio.vad import INT16_SCALE, MAXIMUM_SPEECH_SECONDS
from ser_tf.audio.vad_graph import remove_silence_in_graph
from ser_tf.classifier import Classifier
from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.pairwise_svm import PairwiseSvm, opposition, sides_of_pairs
from ser_tf.serving.predict import Recogniser

Tensors = dict[str, tf.Tensor]

WAVEFORM = tf.TensorSpec([None, None], tf.float32, "waveform")
LENGTH = tf.TensorSpec([None], tf.int32, "length")
PROBLEM = tf.TensorSpec([None], tf.string, "problem")
FRAMES = tf.TensorSpec([None], tf.int32, "frames")

WRONG_LENGTH = "expected a length from 0 to the number of samples"
NOT_FINITE = "expected finite samples; some are NaN or Inf"
TOO_LOUD = "expected samples in [-1, 1]; divide them by the full scale, 32768 for int16"
TOO_SHORT = f"expected at least {1000 * MINIMUM_SAMPLES // SAMPLE_RATE_HZ} ms of sound"
SILENT = "expected a sound; the recording is silent"
TOO_LONG = f"expected a recording of at most {MAXIMUM_RECORDING_SECONDS} s; cut it into utterances"
TOO_MUCH_SPEECH = f"expected at most {MAXIMUM_SPEECH_SECONDS} s of speech; cut it into utterances"


class LineGraph:
    """The line of a run as TensorFlow functions.

    Outputs for B recordings:

    - `emotion`, string [B], and `probabilities`, float32 [B, C], in label order;
    - `embedding`, float32 [B, K*D] of unit norm;
    - `ghost_share`, float32 [B, M], 0 beyond a recording's own descriptors;
    - `speech_seconds`, float32 [B];
    - `problem`, string [B]: empty, or why a recording has no answer. Then its emotion is empty and its numbers are NaN.

    Attributes:
        emotions: the C labels.
        variables: variables that a saved model of the functions must contain.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        self.emotions = recogniser.emotions
        self._config = recogniser.config
        self._spectrogram = tf.TensorSpec([None, None, recogniser.config.spectrogram.bins], tf.float32, "spectrogram")
        self._features = recogniser.features
        self._probabilities, own = probabilities_of(recogniser.classifier, tf.float64)
        self.variables = [*(variable.value for variable in recogniser.features.variables), *own]
        # Traced here, these functions are stored once although several signatures call them.
        self._answers = _traced(self._answers_to_speech, WAVEFORM, LENGTH, PROBLEM)
        self._padded = _traced(self.of_padded_waveforms, WAVEFORM, LENGTH)
        self._network = _traced(self._call_network, self._spectrogram, FRAMES)

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """Traced functions with named inputs, by signature name."""
        functions = {
            "serving_default": _traced(self.of_waveforms, WAVEFORM),
            "padded": self._padded,
            "speech": _traced(self.of_speech, WAVEFORM, LENGTH),
            "spectrogram": _traced(self.spectrogram, WAVEFORM, LENGTH),
            "embed": _traced(self.embed, self._spectrogram, FRAMES),
        }
        return {name: function.get_concrete_function() for name, function in functions.items()}

    def of_waveforms(self, waveform: tf.Tensor) -> Tensors:
        """Outputs for recordings without padding, float32 [B, N] at 16 kHz in [-1, 1]."""
        batch, samples = tf.unstack(tf.shape(waveform))
        return self._padded(waveform, tf.fill([batch], samples))

    def of_padded_waveforms(self, waveform: tf.Tensor, length: tf.Tensor) -> Tensors:
        """Outputs for recordings of `length` int32 [B] samples each; samples beyond it are ignored."""
        waveform, length, problem = _checked(waveform, length)
        samples = tf.cast(tf.round(waveform * INT16_SCALE), tf.int16)
        speech, length, _ = remove_silence_in_graph(samples, length, self._config.vad)
        return self._answers(tf.cast(speech, tf.float32) / INT16_SCALE, length, problem)

    def of_speech(self, waveform: tf.Tensor, length: tf.Tensor) -> Tensors:
        """Outputs for recordings whose silence has been removed."""
        return self._answers(*_checked(waveform, length))

    def spectrogram(self, waveform: tf.Tensor, length: tf.Tensor) -> Tensors:
        """The spectrogram of speech, float32 [B, T, bins], and its number of frames without padding, int32 [B]."""
        length = tf.clip_by_value(length, 0, tf.shape(waveform)[1])
        values, frames = spectrogram(_cropped(waveform, length), length, self._config.spectrogram)
        return {"spectrogram": values, "frames": frames}

    def embed(self, spectrogram: tf.Tensor, frames: tf.Tensor) -> Tensors:
        """The embedding of a spectrogram, float32 [B, K*D], and the ghost share, float32 [B, M]."""
        outputs = self._network(spectrogram, tf.clip_by_value(frames, 0, tf.shape(spectrogram)[1]))
        return {name: outputs[name] for name in ("embedding", "ghost_share")}

    def _call_network(self, values: tf.Tensor, frames: tf.Tensor) -> Tensors:
        return self._features({"spectrogram": values, "frames": frames}, training=False)

    def _answers_to_speech(self, speech: tf.Tensor, length: tf.Tensor, problem: tf.Tensor) -> Tensors:
        is_too_long = length > MAXIMUM_SPEECH_SECONDS * SAMPLE_RATE_HZ
        problem = tf.where(is_too_long, TOO_MUCH_SPEECH, problem)
        is_fine = tf.equal(problem, "")
        inputs = self.spectrogram(speech, tf.where(is_fine, length, 0))
        outputs = self._network(inputs["spectrogram"], inputs["frames"])
        probabilities = self._probabilities(outputs)  # float64 [B, C]
        numbers = {
            "probabilities": tf.cast(probabilities, tf.float32),
            "embedding": outputs["embedding"],
            "ghost_share": outputs["ghost_share"],
        }
        answers = {name: tf.where(tf.expand_dims(is_fine, 1), rows, float("nan")) for name, rows in numbers.items()}
        return {
            "emotion": tf.where(is_fine, tf.gather(self.emotions, _first_largest(probabilities)), ""),
            **answers,
            "speech_seconds": tf.where(is_fine, tf.cast(length, tf.float32) / SAMPLE_RATE_HZ, float("nan")),
            "problem": problem,
        }


def probabilities_of(
    classifier: Classifier, dtype: tf.DType
) -> tuple[Callable[[Tensors], tf.Tensor], list[tf.Variable]]:
    """`Classifier.probabilities` as a function of the network's outputs, [B, C] in `dtype`; and its variables."""
    factor = classifier.inverse_temperature
    if classifier.svm is None:
        return lambda outputs: tf.nn.softmax(factor * tf.cast(outputs["logits"], dtype)), []
    svm, slope = classifier.svm, classifier.slope
    support = tf.Variable(svm.support, trainable=False, dtype=dtype, name="support_vectors")

    def of(outputs: Tensors) -> tf.Tensor:
        margins = svm_margins(svm, outputs["embedding"], support)
        return tf.nn.softmax(factor * (svm_votes(margins) if slope is None else svm_coupled(margins, slope)))

    return of, [support]


def svm_margins(svm: PairwiseSvm, embedding: tf.Tensor, support: tf.Variable) -> tf.Tensor:
    """`PairwiseSvm.margins` of embeddings [B, E], as [B, P] in the precision of the support vectors."""
    embedding = tf.cast(embedding, support.dtype)
    coefficients, intercepts = (tf.cast(values, support.dtype) for values in (svm.coefficients, svm.intercepts))
    square_distance = (
        tf.reduce_sum(tf.square(embedding), 1, keepdims=True)
        - 2 * tf.matmul(embedding, support, transpose_b=True)
        + tf.reduce_sum(tf.square(support), 1)
    )  # [B, S]
    return tf.matmul(tf.exp(-svm.gamma * tf.nn.relu(square_distance)), coefficients) + intercepts


def svm_coupled(margins: tf.Tensor, slope: float) -> tf.Tensor:
    """`ser_tf.pairwise_svm.coupled`, [B, C], minus its mean over the classes, for accuracy in 8 bits.

    It uses operations that ONNX and LiteRT support.
    """
    logits = tf.tensordot(slope * margins, tf.cast(opposition(margins.shape[1]), margins.dtype), 1)  # [B, C, C]
    largest = tf.reduce_max(logits, 2, keepdims=True)
    scores = -tf.math.log(tf.reduce_sum(tf.exp(logits - largest), 2)) - largest[..., 0]
    return scores - tf.reduce_mean(scores, 1, keepdims=True)


def svm_votes(margins: tf.Tensor) -> tf.Tensor:
    """`ser_tf.pairwise_svm.votes`, [B, C]."""
    first, second = _sides_of_pairs(margins)
    sums = tf.matmul(margins, first - second)
    if sums.shape[1] == 2:
        return sums
    votes = tf.matmul(tf.cast(margins >= 0, margins.dtype), first)
    votes += tf.matmul(tf.cast(margins < 0, margins.dtype), second)
    return votes + sums / (3 * (tf.abs(sums) + 1))


def _sides_of_pairs(margins: tf.Tensor) -> list[tf.Tensor]:
    return [tf.cast(side, margins.dtype) for side in sides_of_pairs(margins.shape[1])]


def _checked(waveform: tf.Tensor, length: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Find the problems that `to_waveform` raises, per recording.

    Returns:
        The waveform, clipped to the full scale of int16, with zeros for padding and for samples that are not finite,
        cut to the longest recording without a problem; the length, 0 if there is a problem; and the problem, string
        [B].
    """
    batch, samples = tf.unstack(tf.shape(waveform))
    checks = (
        tf.debugging.assert_positive(batch, "waveform: expected at least one recording. Received: an empty batch"),
        tf.debugging.assert_equal(tf.shape(length)[0], batch, "length: expected as many as there are recordings"),
    )
    with tf.control_dependencies(checks):
        waveform = tf.identity(waveform)
    is_length = (length >= 0) & (length <= samples)
    is_true = tf.sequence_mask(tf.where(is_length, length, 0), samples)
    is_finite = tf.math.is_finite(waveform)
    audible = tf.where(is_true & is_finite, waveform, 0.0)
    level = tf.reduce_max(tf.abs(tf.pad(audible, [[0, 0], [0, 1]])), 1)
    problem = tf.fill(tf.shape(length), "")
    for is_wrong, words in (  # if several hold, the last one here wins
        (level < SILENT_LEVEL, SILENT),
        (length < MINIMUM_SAMPLES, TOO_SHORT),
        (level > LARGEST_LEVEL, TOO_LOUD),
        (tf.reduce_any(is_true & ~is_finite, 1), NOT_FINITE),
        (length > MAXIMUM_RECORDING_SECONDS * SAMPLE_RATE_HZ, TOO_LONG),
        (~is_length, WRONG_LENGTH),
    ):
        problem = tf.where(is_wrong, words, problem)
    length = tf.where(tf.equal(problem, ""), length, 0)
    audible = tf.clip_by_value(audible, -1.0, 1.0 - 1.0 / INT16_SCALE)
    return _cropped(audible, length), length, problem


def _cropped(speech: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Cut or pad rows to the longest length, at least one analysis window."""
    longest = tf.reduce_max(tf.pad(length, [[0, 1]], constant_values=MINIMUM_SAMPLES))
    missing = tf.maximum(longest - tf.shape(speech)[1], 0)
    return tf.pad(speech, [[0, 0], [0, missing]])[:, :longest]


def _first_largest(rows: tf.Tensor) -> tf.Tensor:
    """Index of the largest value of each row [B, C]; of equal values the first, as in NumPy."""
    is_largest = tf.equal(rows, tf.reduce_max(rows, 1, keepdims=True))
    places = tf.range(rows.shape[1])
    return tf.reduce_min(tf.where(is_largest, places, rows.shape[1]), 1)


def _traced(function: Callable[..., Tensors], *inputs: tf.TensorSpec) -> Any:
    """The function as a graph with these inputs."""
    return tf.function(function, input_signature=inputs, autograph=False)
