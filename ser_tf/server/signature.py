"""Requests and answers in the form of TensorFlow Serving's REST interface, as for a SavedModel of `ser-tf export`.

Of its signatures (docs/serving.md) the two that take recordings are here. What this server takes, TensorFlow Serving
takes too.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ser_tf.documents import parse_json
from ser_tf.errors import UserError, quoted

DEFAULT, PADDED = "serving_default", "padded"
VERSION = "1"
_INPUTS = {"waveform": ("DT_FLOAT", (-1, -1)), "length": ("DT_INT32", (-1,))}
_INPUTS_OF = {DEFAULT: ("waveform",), PADDED: ("waveform", "length")}
_LARGEST_INT32 = 2**31 - 1


class Instance(NamedTuple):
    """One recording of a predict request.

    Attributes:
        samples: float32 [N] at 16 kHz in [-1, 1], of which nothing is checked yet.
        problem: empty, or why it cannot be answered.
    """

    samples: np.ndarray
    problem: str = ""


def status() -> dict[str, Any]:
    """What `GET /v1/models/NAME` answers."""
    ready = {"version": VERSION, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    return {"model_version_status": [ready]}


def metadata(name: str, emotions: int, embedding_size: int) -> dict[str, Any]:
    """What `GET /v1/models/NAME/metadata` answers.

    Args:
        name: of the model.
        emotions: number of its emotions.
        embedding_size: numbers of an embedding.
    """
    outputs = {
        "emotion": ("DT_STRING", (-1,)),
        "probabilities": ("DT_FLOAT", (-1, emotions)),
        "embedding": ("DT_FLOAT", (-1, embedding_size)),
        "ghost_share": ("DT_FLOAT", (-1, -1)),
        "speech_seconds": ("DT_FLOAT", (-1,)),
        "problem": ("DT_STRING", (-1,)),
    }
    signatures = {
        signature: {
            "inputs": {tensor: _tensor(f"{signature}_{tensor}", *_INPUTS[tensor]) for tensor in names},
            "outputs": {tensor: _tensor(tensor, *form) for tensor, form in outputs.items()},
            "method_name": "tensorflow/serving/predict",
            "defaults": {},
        }
        for signature, names in _INPUTS_OF.items()
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": VERSION},
        "metadata": {"signature_def": {"signature_def": signatures}},
    }


def parse_instances(content: bytes, most: int) -> list[Instance]:
    """The recordings of a predict request.

    Args:
        content: its body.
        most: the maximum number of recordings.

    Raises:
        UserError: the body is not such a request; the line says why.
    """
    try:
        request = parse_json(content.decode("utf-8"))
    except ValueError as error:
        raise UserError(f"body: expected JSON in UTF-8; {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("instances"), list):
        raise UserError('body: expected {"signature_name": ..., "instances": [...]}. Received: no list of instances')
    unknown = request.keys() - {"instances", "signature_name"}
    if unknown:
        raise UserError(f"body: expected instances and signature_name. Received also: {quoted(min(unknown))}")
    signature = request.get("signature_name", DEFAULT)
    if signature not in (*_INPUTS_OF, ""):
        raise UserError(f"signature_name: expected {DEFAULT} or {PADDED}. Received: {quoted(signature)}")
    rows = request["instances"]
    if not 0 < len(rows) <= most:
        raise UserError(
            f"instances: expected 1 to {most} recordings. Received: {len(rows)}; send them in several requests"
        )
    is_padded = signature == PADDED
    instances = [_instance(row, f"instances[{place}]", is_padded) for place, row in enumerate(rows)]
    sizes = {len(waveform) for waveform, _ in instances}
    if len(sizes) > 1:
        raise UserError(
            f"instances: expected waveforms of one length. Received: {min(sizes)} to {max(sizes)} samples; fill them "
            f"with zeros, and send signature_name {PADDED} with the length of each"
        )
    return [_cropped(waveform, length) for waveform, length in instances]


def prediction_rows(predictions: Sequence[Any], emotions: int, embedding_size: int) -> list[dict[str, Any]]:
    """The `predictions` of an answer.

    Args:
        predictions: of each recording its `Prediction`, or the text of its problem.
        emotions: number of emotions.
        embedding_size: numbers of an embedding.

    Returns:
        One mapping a recording, with all outputs of the signature; the numbers of one with a problem are NaN, and a
        ghost share is 0 beyond its own descriptors.
    """
    descriptors = max((len(named.ghost_share) for named in predictions if not isinstance(named, str)), default=1)
    return [_row(named, emotions, embedding_size, descriptors) for named in predictions]


def _tensor(name: str, dtype: str, sizes: tuple[int, ...]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in sizes]
    return {"dtype": dtype, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": f"{name}:0"}


def _instance(row: Any, name: str, is_padded: bool) -> tuple[np.ndarray, int]:
    """Waveform and length; a row of the default signature may be the bare waveform, since that is its one input."""
    expected = _INPUTS_OF[PADDED if is_padded else DEFAULT]
    if isinstance(row, list) and not is_padded:
        row = {"waveform": row}
    if not isinstance(row, dict) or row.keys() != set(expected):
        received = f"{{{', '.join(map(repr, sorted(row)))}}}" if isinstance(row, dict) else quoted(row)
        raise UserError(f"{name}: expected {{{', '.join(map(repr, expected))}}}. Received: {received}")
    waveform = _numbers(row["waveform"], f"{name}.waveform")
    length = row.get("length", len(waveform))
    if not isinstance(length, int) or isinstance(length, bool) or abs(length) > _LARGEST_INT32:
        raise UserError(f"{name}.length: expected a whole number of samples. Received: {quoted(length)}")
    return waveform, length


def _numbers(values: Any, name: str) -> np.ndarray:
    expected = f"{name}: expected a list of numbers, samples at 16 kHz in [-1, 1]"
    try:
        numbers = np.asarray(values)
    except ValueError as error:
        raise UserError(f"{expected}. Received: lists of several lengths") from error
    if numbers.ndim == 2:
        raise UserError(
            f"{expected}, of one channel. Received: shape {list(numbers.shape)}; send the mean of the channels"
        )
    if numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise UserError(f"{expected}. Received: {quoted(values)}")
    with np.errstate(over="ignore"):  # it becomes infinite, and its recording gets a problem
        return numbers.astype(np.float32)


def _cropped(waveform: np.ndarray, length: int) -> Instance:
    if not 0 <= length <= len(waveform):
        return Instance(waveform, f"expected a length from 0 to the number of samples. Received: {length}")
    return Instance(waveform[:length])


def _row(named: Any, emotions: int, embedding_size: int, descriptors: int) -> dict[str, Any]:
    if isinstance(named, str):
        nan = float("nan")
        return {
            "emotion": "",
            "probabilities": [nan] * emotions,
            "embedding": [nan] * embedding_size,
            "ghost_share": [nan] * descriptors,
            "speech_seconds": nan,
            "problem": named,
        }
    share = np.pad(named.ghost_share, (0, descriptors - len(named.ghost_share)))
    return {
        "emotion": named.emotion,
        "probabilities": list(named.probabilities.values()),
        "embedding": named.embedding.tolist(),
        "ghost_share": share.tolist(),
        "speech_seconds": named.speech_seconds,
        "problem": "",
    }
