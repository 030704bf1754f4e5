"""Decoding of MP4 (m4a) and WebM, which libsndfile does not read, with PyAV (FFmpeg), the extra `[m4a]`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from ser_tf.audio.checks import TruncatedRecording, check_rate, check_recording_length
from ser_tf.errors import UserError, import_extra

LARGEST_DEFICIT_SAMPLES = 4096
"""The header's length may exceed the decoded samples by an encoder's delay and the padding of its last block."""


def require_av() -> None:
    """Require PyAV.

    Raises:
        UserError: it is not installed; the message names the extra.
    """
    import_extra("av", "m4a (AAC) needs PyAV", "m4a")


@contextmanager
def opened(file: BinaryIO, name: str, maximum_seconds: int) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """Start decoding the sound of an MP4 or WebM file.

    Args:
        file: the recording.
        name: its name in error messages.
        maximum_seconds: longer recordings are refused.

    Yields:
        The rate in Hz, and the samples as blocks float32 [n, channels], full scale 1.

    Raises:
        UserError: PyAV is missing, or the file is not a complete recording of at most `maximum_seconds`.
    """
    try:
        require_av()
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    import av

    with _explained(name):
        container = av.open(file, "r", metadata_errors="ignore")  # old titles are not in UTF-8
    with container:
        with _explained(name):
            if not container.streams.audio:
                raise UserError(f"{name}: expected sound. Received: MP4 or WebM without any; give another recording")
            stream = container.streams.audio[0]
            rate_hz = check_rate(stream.rate, name)
            declared = round(_declared_seconds(container, stream) * rate_hz)
            check_recording_length(declared, rate_hz, name, maximum_seconds)
        yield rate_hz, _blocks(container, stream, declared, name, maximum_seconds)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    import av

    try:
        yield
    except (av.error.FFmpegError, AttributeError, ValueError, TypeError) as error:  # PyAV fails on damaged headers
        reason = getattr(error, "strerror", error)
        raise UserError(f"{name}: damaged or truncated: {reason}; fetch it again") from error


def _declared_seconds(container: Any, stream: Any) -> float:
    """Length of the sound in the header; 0 if the header does not give it."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.duration and len(container.streams) == 1:  # WebM has one length for all streams
        return container.duration / 1e6
    return 0.0


def _blocks(container: Any, stream: Any, declared: int, name: str, maximum_seconds: int) -> Iterator[np.ndarray]:
    import av

    planar = av.AudioResampler(format="fltp", rate=stream.rate)
    samples = 0
    with _explained(name):
        for frame in container.decode(stream):
            for part in planar.resample(frame):
                block = part.to_ndarray().T  # [n, channels]
                samples += len(block)
                check_recording_length(samples, stream.rate, name, maximum_seconds, block.shape[1])
                if len(block):
                    yield block
    if samples + LARGEST_DEFICIT_SAMPLES < declared:
        raise TruncatedRecording(name, f"it stops after {samples} samples, before its end")
