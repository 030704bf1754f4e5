"""file -> waveform: any recording becomes float32 [N], mono, 16 kHz, in [-1, 1]."""

import io
import operator
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import UserError

MINIMUM_SAMPLES = 512
"""32 ms: one analysis window, without which there is no spectrogram."""
MAXIMUM_RECORDING_SECONDS = 600
"""Longer recordings are refused before they are decoded, so that one of them cannot fill the memory."""
LARGEST_LEVEL = 1.5
"""Lossy codecs and resamplers overshoot full scale by up to a fifth; beyond this the samples were never scaled."""

QUALITY = "HQ"
"""Of soxr's resampling."""
SILENT_LEVEL = 0.5 / 2**15
"""16 bit round what is below to zero."""

_LFS_POINTER = b"version https://git-lfs"
_UNKNOWN_LENGTH = 2**63 - 1
_FORMATS = "wav, flac, ogg (Vorbis, Opus), mp3, aiff or au"
_DECLARED_AND_FOUND = re.compile(r"\b(?:data|SSND|Data Size|Riff size|riff)\s*: (\d+) \(should be (\d+)\)")
_CUT_OGG = ("lacks an end-of-stream bit", "Junk after the last page", "without an End-Of-Stream flag")
_STREAMED = 0x7FFF0000
"""Programs that write to a pipe cannot know the length: they declare at least this many bytes."""


def read_waveform(recording: str | Path | bytes) -> np.ndarray:
    """Decode a recording and bring it to the project's form.

    Args:
        recording: a file, or the content of one; any rate and channels, 8 to 32 bit or float, in any format that
            libsndfile reads, or m4a.

    Returns:
        float32 [N], the mean of the channels, at 16 kHz in [-1, 1].

    Raises:
        UserError: the recording is missing, empty, truncated, silent, too short, too long, cannot be decoded, or holds
            impossible samples.
    """
    if isinstance(recording, bytes):
        content, name = recording, "recording"
    else:
        content, name = read_content(Path(recording)), str(recording)
    samples, rate_hz = decode(content, name)
    return to_waveform(samples, rate_hz, name)


def read_content(path: Path) -> bytes:
    """The bytes of a recording's file.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    with open_content(path) as file:
        return file.read()


@contextmanager
def open_content(path: Path) -> Iterator[BinaryIO]:
    """The file of a recording.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: expected a recording, but there is no such file") from error
    except IsADirectoryError as error:
        raise UserError(f"{path}: expected a recording. Received: a directory") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode the content of a recording with libsndfile, or m4a with PyAV.

    Args:
        content: the bytes of the file.
        name: what an error message calls the recording.

    Returns:
        The samples as float32 [N, channels], full scale 1, and their rate in Hz.

    Raises:
        UserError: the content is no whole recording of at most 10 minutes, or m4a where PyAV is missing.
    """
    if is_mp4(content):
        from ser_tf.audio import m4a_backend  # an extra: only who has such files needs it

        return m4a_backend.decode(content, name)
    with open_recording(content, name) as file:
        samples = file.read(dtype="float32", always_2d=True)
        check_is_whole(len(samples), file, name)
        return samples, file.samplerate


def is_mp4(head: bytes) -> bool:
    """Whether a file that begins like this is m4a, which libsndfile does not read."""
    return head[4:8] == b"ftyp"


@contextmanager
def open_recording(
    content: bytes | BinaryIO, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS
) -> Iterator[soundfile.SoundFile]:
    """Read the header of a recording; what libsndfile raises inside becomes a `UserError`.

    Args:
        content: the bytes of the file, or the file, of which no more is read than is asked for.
        name: what an error message calls the recording.
        maximum_seconds: of what is not refused.

    Raises:
        UserError: the content is empty, a git-LFS pointer, no audio, damaged, or longer than `maximum_seconds`.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    head = file.read(len(_LFS_POINTER))
    file.seek(0)
    if not head:
        raise UserError(f"{name}: expected a recording. Received: a file of zero bytes; fetch it again")
    if head == _LFS_POINTER:
        raise UserError(
            f"{name}: expected a recording. Received: a git-LFS pointer; fetch the audio with `git lfs pull`"
        )
    try:
        recording = soundfile.SoundFile(file)
    except soundfile.LibsndfileError as error:
        remedy = f"convert it, for example with `ffmpeg -i {name} converted.wav`"
        raise UserError(f"{name}: expected {_FORMATS}. Received: {_reason(error)}; {remedy}") from error
    with recording:
        if recording.frames == _UNKNOWN_LENGTH:
            raise UserError(f"{name}: expected a header that says how long it is; write it anew, not through a pipe")
        check_recording_length(recording.frames, recording.samplerate, name, maximum_seconds)
        try:
            yield recording
        except soundfile.LibsndfileError as error:
            raise UserError(f"{name}: damaged or truncated: {_reason(error)}; fetch it again") from error


def check_is_whole(samples: int, file: soundfile.SoundFile, name: str) -> None:
    """Refuse a recording that holds less than its header promised.

    Raises:
        UserError: `samples` were decoded, and there should have been more.
    """
    if samples < file.frames or _is_truncated(file.extra_info):
        raise UserError(f"{name}: truncated: it stops after {samples} samples, before its end; fetch it again")


def check_recording_length(
    samples: int, rate_hz: int, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS
) -> None:
    """Refuse a recording that is too long to be decoded at once.

    Raises:
        UserError: it lasts more than `maximum_seconds`.
    """
    if samples > maximum_seconds * rate_hz:
        raise UserError(
            f"{name}: expected a recording of at most {maximum_seconds} s. "
            f"Received: {samples / rate_hz:.1f} s; cut it into utterances"
        )


def to_waveform(samples: np.ndarray, rate_hz: int, name: str = "samples") -> np.ndarray:
    """Bring samples to the project's form: the mean of the channels, resampled to 16 kHz.

    Args:
        samples: [N] or [N, channels]; signed 8, 16 or 32 bit, unsigned 8 bit, or float in [-1, 1].
        rate_hz: their rate.
        name: what an error message calls the recording.

    Returns:
        float32 [N] at 16 kHz in [-1, 1].

    Raises:
        UserError: another shape or type, a rate that is no positive whole number, or samples that are no audible sound
            of at least 32 ms.
    """
    rate_hz = _checked_rate(rate_hz, name)
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > max(samples.shape[0], 1)):
        raise UserError(
            f"{name}: expected shape [N] or [N, channels]. Received: shape={list(samples.shape)}; transpose "
            "[channels, N], and pass recordings one at a time"
        )
    if samples.size == 0:
        raise UserError(f"{name}: expected a sound. Received: no samples")
    check_recording_length(len(samples), rate_hz, name)
    mono = to_mono(samples, name)
    waveform = mono if rate_hz == SAMPLE_RATE_HZ else soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ, quality=QUALITY)
    check_is_audible(waveform, name)
    return np.clip(waveform, -1.0, 1.0)


def to_mono(samples: np.ndarray, name: str) -> np.ndarray:
    """The mean of the channels, float32 [N] with full scale 1, of samples as `to_waveform` takes them.

    Raises:
        UserError: another type, or samples that are not finite or were not scaled.
    """
    scaled = _full_scale_one(samples, name)
    return scaled.mean(axis=1, dtype=np.float32) if scaled.ndim == 2 and scaled.shape[1] > 1 else scaled.reshape(-1)


def check_is_audible(waveform: np.ndarray, name: str) -> None:
    """Refuse what is too short or silent.

    Raises:
        UserError: the waveform [N] at 16 kHz, float of full scale 1 or int16, is no sound of at least 32 ms.
    """
    if len(waveform) < MINIMUM_SAMPLES:
        raise UserError(
            f"{name}: expected at least {1000 * MINIMUM_SAMPLES // SAMPLE_RATE_HZ} ms of sound. "
            f"Received: {1000 * len(waveform) / SAMPLE_RATE_HZ:.1f} ms"
        )
    if np.abs(waveform).max() < SILENT_LEVEL:
        raise UserError(f"{name}: expected a sound. Received: {len(waveform) / SAMPLE_RATE_HZ:.1f} s that are silent")


def _full_scale_one(samples: np.ndarray, name: str) -> np.ndarray:
    """Samples of any type as finite float32, full scale 1."""
    if samples.dtype == np.uint8:  # the one unsigned format of wav files: 128 is zero
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int8, np.int16, np.int32):
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.itemsize - 1))
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"{name}: expected int8, int16, int32, uint8 or float. Received: dtype={samples.dtype}")
    scaled = samples.astype(np.float32)
    if not np.isfinite(scaled).all():
        raise UserError(
            f"{name}: expected finite samples. Received: {np.sum(~np.isfinite(scaled))} that are NaN or Inf"
        )
    level = np.abs(scaled).max()
    if level > LARGEST_LEVEL:
        remedy = "divide by the full scale"
        if np.array_equal(scaled, np.rint(scaled)):
            remedy = "they are whole numbers, so perhaps int16 that were not scaled: divide by 32768"
        raise UserError(f"{name}: expected float samples in [-1, 1]. Received: samples up to {level:.6g}; {remedy}")
    return scaled


def _checked_rate(rate_hz: int, name: str) -> int:
    try:
        rate = 0 if isinstance(rate_hz, bool) else operator.index(rate_hz)
    except TypeError:
        rate = 0
    if rate <= 0:
        raise UserError(f"{name}: expected a rate in Hz, a positive whole number. Received: rate_hz={rate_hz!r}")
    return rate


def _is_truncated(log: str) -> bool:
    """Whether libsndfile, which reads what is there, noted that the header had promised more."""
    if any(sign in log for sign in _CUT_OGG):
        return True
    sizes = ((int(declared), int(found)) for declared, found in _DECLARED_AND_FOUND.findall(log))
    return any(found < declared < _STREAMED for declared, found in sizes)


def _reason(error: soundfile.LibsndfileError) -> str:
    return error.error_string.removeprefix("Error : ").strip().rstrip(".") or "data that cannot be decoded"
