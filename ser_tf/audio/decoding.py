"""file -> blocks of samples: the only decoder of recordings, short or long, for training, audit and prediction."""

import io
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile

from ser_tf.audio.checks import MAXIMUM_RECORDING_SECONDS, TruncatedRecording, check_rate, check_recording_length
from ser_tf.audio.containers import FORMATS, HEAD_BYTES, conversion, mend, needs_pyav, refuse_other_kinds
from ser_tf.errors import UserError

LARGEST_CONTENT_BYTES = 1 << 30
"""Of a file read at once."""
LARGEST_FILE_BYTES = 8 << 30
"""Of a file read block by block: 10 minutes with the maximum number of samples, as float64."""
BLOCK_VALUES = 1 << 19
"""Samples of all channels decoded at once."""

_UNKNOWN_LENGTH = 2**63 - 1
_DECLARED_AND_FOUND = re.compile(r"\b(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)")
_NO_FILE = "File does not exist"
"""What libsndfile says of content that begins like an MP3 and is none."""
_LOST_PAGE = "looking for the next page. Corrupted bitstream"
_STREAMED = 0x7FFF0000
"""Programs that write to a pipe do not know the length and declare at least this many bytes."""


class Sound(NamedTuple):
    """A recording being decoded.

    Attributes:
        rate_hz: its rate.
        subtype: its encoding, as libsndfile names it: "PCM_16", "VORBIS" ...
        blocks: float32 [n, channels] each, full scale 1, none empty; a truncated recording raises an error after the
            last.
    """

    rate_hz: int
    subtype: str
    blocks: Iterator[np.ndarray]


def read_content(path: Path) -> bytes:
    """The bytes of a recording's file.

    Raises:
        UserError: as `open_content`.
    """
    with open_content(path, LARGEST_CONTENT_BYTES) as file:
        return file.read()


@contextmanager
def open_content(path: Path, maximum_bytes: int = LARGEST_FILE_BYTES) -> Iterator[io.BufferedReader]:
    """The file of a recording.

    Raises:
        UserError: the file does not exist, is a device or a pipe, is too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UserError(f"{path}: expected a recording. Received: a device or a pipe; copy it to a file first")
        if status.st_size > maximum_bytes:
            raise UserError(
                f"{path}: expected a recording of at most {maximum_bytes / 2**30:g} GiB. "
                f"Received: {status.st_size / 2**30:.1f} GiB; cut it into utterances"
            )
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected a recording, but there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: expected a recording. Received: a directory") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def open_sound(file: BinaryIO, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS) -> Iterator[Sound]:
    """Start decoding a recording, with libsndfile or, for MP4 and WebM, with PyAV.

    Args:
        file: the recording; it is read only as far as blocks are requested.
        name: its name in error messages.
        maximum_seconds: longer recordings are refused.

    Raises:
        UserError: the file is not a recording, is damaged, truncated or longer than `maximum_seconds`, or is MP4 or
            WebM and PyAV is missing.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    refuse_other_kinds(head, name)
    if needs_pyav(head):
        from ser_tf.audio import m4a_backend  # an extra

        with m4a_backend.opened(file, name, maximum_seconds) as (rate_hz, blocks):
            yield Sound(rate_hz, "AAC", blocks)
        return
    with open_recording(mend(file, name, maximum_seconds), name, maximum_seconds) as recording:
        yield Sound(recording.samplerate, recording.subtype, _blocks(recording, name))


@contextmanager
def open_recording(
    file: BinaryIO, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS
) -> Iterator[soundfile.SoundFile]:
    """Read the header of a recording; errors of libsndfile inside the context become a `UserError`.

    Args:
        file: the recording, mended.
        name: its name in error messages.
        maximum_seconds: longer recordings are refused.

    Raises:
        UserError: the file is not audio, is damaged, or is longer than `maximum_seconds`.
    """
    try:
        recording = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{name}: expected {FORMATS}. Received: {_reason(error)}; {conversion(name)}") from error
    with recording:
        if recording.frames == _UNKNOWN_LENGTH:
            raise UserError(f"{name}: expected a header that gives its length; write it again, not through a pipe")
        check_rate(recording.samplerate, name)
        check_recording_length(recording.frames, recording.samplerate, name, maximum_seconds, recording.channels)
        try:
            yield recording
        except soundfile.LibsndfileError as error:
            raise UserError(f"{name}: damaged or truncated: {_reason(error)}; fetch it again") from error


def check_is_whole(samples: int, recording: soundfile.SoundFile, name: str) -> None:
    """Refuse a recording that holds less than its header promises.

    Raises:
        UserError: fewer `samples` were decoded than promised.
    """
    log = recording.extra_info
    if samples < recording.frames or _is_truncated(log):
        raise TruncatedRecording(name, f"it stops after {samples} samples, before its end")
    if _LOST_PAGE in log:
        raise UserError(f"{name}: damaged: some of its pages cannot be read; fetch it again")


def _blocks(recording: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    samples = 0
    most = max(BLOCK_VALUES // recording.channels, 1)
    # Always pass a number: some codecs (GSM 6.10, G.72x) do not know how many samples are left.
    while len(block := recording.read(most, dtype="float32", always_2d=True)):
        samples += len(block)
        yield block
    check_is_whole(samples, recording, name)


def _is_truncated(log: str) -> bool:
    """Whether libsndfile's log says that the header promised more than the file holds."""
    sizes = [(int(declared), int(found)) for declared, found in _DECLARED_AND_FOUND.findall(log)]
    return any(found < declared < _STREAMED for declared, found in sizes)


def _reason(error: soundfile.LibsndfileError) -> str:
    reason = error.error_string.removeprefix("Error : ").strip().rstrip(".")
    return "data that cannot be decoded" if not reason or reason.startswith(_NO_FILE) else reason
