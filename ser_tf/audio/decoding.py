"""file -> blocks of samples: the one decoder of recordings, short or long, for training, audit and prediction."""

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
"""Of a file that is read whole."""
LARGEST_FILE_BYTES = 8 << 30
"""Of a file that is read block by block: 10 minutes of the most samples that are taken, as float64."""
BLOCK_VALUES = 1 << 19
"""Samples of all channels that are decoded at once."""

_UNKNOWN_LENGTH = 2**63 - 1
_DECLARED_AND_FOUND = re.compile(r"\b(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)")
_NO_FILE = "File does not exist"
"""What libsndfile says of content that begins like an MP3 and is none."""
_LOST_PAGE = "looking for the next page. Corrupted bitstream"
_STREAMED = 0x7FFF0000
"""Programs that write to a pipe cannot know the length: they declare at least this many bytes."""


class Sound(NamedTuple):
    """A recording that is being decoded.

    Attributes:
        rate_hz: its rate.
        subtype: how its samples are written, in libsndfile's words: "PCM_16", "VORBIS" ...
        blocks: float32 [n, channels] each, full scale 1, none of them empty; the last is followed by an error where the
            recording is truncated.
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
        UserError: there is no such file, it is a device or a pipe, it is too large, or it cannot be read.
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
    """Begin to decode a recording, with libsndfile or, from MP4 and WebM, with PyAV.

    Args:
        file: the recording, of which no more is read than is asked for.
        name: what an error message calls it.
        maximum_seconds: longer recordings are refused.

    Raises:
        UserError: the file is no recording, damaged, truncated or longer than `maximum_seconds`; or MP4 or WebM where
            PyAV is missing.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    refuse_other_kinds(head, name)
    if needs_pyav(head):
        from ser_tf.audio import m4a_backend  # an extra: only who has such files needs it

        with m4a_backend.opened(file, name, maximum_seconds) as (rate_hz, blocks):
            yield Sound(rate_hz, "AAC", blocks)
        return
    with open_recording(mend(file, name, maximum_seconds), name, maximum_seconds) as recording:
        yield Sound(recording.samplerate, recording.subtype, _blocks(recording, name))


@contextmanager
def open_recording(
    file: BinaryIO, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS
) -> Iterator[soundfile.SoundFile]:
    """Read the header of a recording; what libsndfile raises inside becomes a `UserError`.

    Args:
        file: the recording, mended.
        name: what an error message calls it.
        maximum_seconds: longer recordings are refused.

    Raises:
        UserError: the file is no audio, damaged, or longer than `maximum_seconds`.
    """
    try:
        recording = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{name}: expected {FORMATS}. Received: {_reason(error)}; {conversion(name)}") from error
    with recording:
        if recording.frames == _UNKNOWN_LENGTH:
            raise UserError(f"{name}: expected a header that says how long it is; write it anew, not through a pipe")
        check_rate(recording.samplerate, name)
        check_recording_length(recording.frames, recording.samplerate, name, maximum_seconds, recording.channels)
        try:
            yield recording
        except soundfile.LibsndfileError as error:
            raise UserError(f"{name}: damaged or truncated: {_reason(error)}; fetch it again") from error


def check_is_whole(samples: int, recording: soundfile.SoundFile, name: str) -> None:
    """Refuse a recording that holds less than its header promised.

    Raises:
        UserError: `samples` were decoded, and there should have been more.
    """
    log = recording.extra_info
    if samples < recording.frames or _is_truncated(log):
        raise TruncatedRecording(name, f"it stops after {samples} samples, before its end")
    if _LOST_PAGE in log:
        raise UserError(f"{name}: damaged: pages of it cannot be read; fetch it again")


def _blocks(recording: soundfile.SoundFile, name: str) -> Iterator[np.ndarray]:
    samples = 0
    most = max(BLOCK_VALUES // recording.channels, 1)
    # A number is asked for, since some codecs (GSM 6.10, G.72x) cannot tell how many are left.
    while len(block := recording.read(most, dtype="float32", always_2d=True)):
        samples += len(block)
        yield block
    check_is_whole(samples, recording, name)


def _is_truncated(log: str) -> bool:
    """Whether libsndfile, which reads what is there, noted that the header had promised more."""
    sizes = [(int(declared), int(found)) for declared, found in _DECLARED_AND_FOUND.findall(log)]
    return any(found < declared < _STREAMED for declared, found in sizes)


def _reason(error: soundfile.LibsndfileError) -> str:
    reason = error.error_string.removeprefix("Error : ").strip().rstrip(".")
    return "data that cannot be decoded" if not reason or reason.startswith(_NO_FILE) else reason
