"""Decoding of m4a (AAC in MP4), which libsndfile does not read: by FFmpeg's libraries in PyAV, the extra `[m4a]`."""

import io

import numpy as np

from ser_tf.audio.waveform import MAXIMUM_RECORDING_SECONDS, check_recording_length
from ser_tf.errors import UserError, import_extra

LARGEST_DEFICIT_SAMPLES = 4096
"""An encoder's delay and the filling of its last block, by which the header's length may differ from what comes out."""


def require() -> None:
    """Make sure that PyAV is there.

    Raises:
        UserError: it is not; the line names the extra.
    """
    import_extra("av", "m4a (AAC) needs PyAV", "m4a")


def decode(content: bytes, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS) -> tuple[np.ndarray, int]:
    """Decode the content of an m4a file; the counterpart of `waveform.decode`.

    Args:
        content: the bytes of the file.
        name: what an error message calls the recording.
        maximum_seconds: of what is not refused.

    Returns:
        The samples as float32 [N, channels], full scale 1, and their rate in Hz.

    Raises:
        UserError: PyAV is missing, or the content is no whole recording of at most `maximum_seconds`.
    """
    try:
        require()
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    import av

    try:
        with av.open(io.BytesIO(content), "r", metadata_errors="ignore") as container:  # old titles are not in UTF-8
            if not container.streams.audio:
                raise UserError(f"{name}: expected sound. Received: an MP4 file without any; fetch it again")
            stream = container.streams.audio[0]
            declared = round((stream.duration or 0) * (stream.time_base or 0) * stream.rate)
            check_recording_length(declared, stream.rate, name, maximum_seconds)
            planar = av.AudioResampler(format="fltp")
            blocks = [block.to_ndarray() for frame in container.decode(stream) for block in planar.resample(frame)]
            rate_hz = stream.rate
    except (av.error.FFmpegError, AttributeError, ValueError) as error:  # PyAV stumbles over damaged headers
        reason = getattr(error, "strerror", error)
        raise UserError(f"{name}: damaged or truncated: {reason}; fetch it again") from error
    samples = np.concatenate(blocks, axis=1).T if blocks else np.empty((0, 1), np.float32)  # [N, channels]
    if len(samples) + LARGEST_DEFICIT_SAMPLES < declared:
        raise UserError(f"{name}: truncated: it stops after {len(samples)} samples, before its end; fetch it again")
    return samples, rate_hz
