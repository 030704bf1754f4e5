"""file -> waveform: any recording becomes float32 [N], mono, 16 kHz, in [-1, 1]."""

import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr

from ser_tf.audio.checks import LARGEST_LEVEL, check_channels, check_is_audible, check_rate, check_recording_length
from ser_tf.audio.decoding import open_content, open_sound
from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import UserError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""The path of a recording, its content, or the open file."""
QUALITY = "HQ"
"""Of soxr's resampling."""


def read_waveform(recording: Source, name: str = "") -> np.ndarray:
    """Decode a recording and convert it to the project's form.

    Args:
        recording: a file's path, its content, or the open file; any rate and channels, 8 to 32 bit or float, in any
            format that libsndfile reads, or MP4 (m4a) or WebM.
        name: its name in error messages; by default the path, or "recording".

    Returns:
        float32 [N], the mean of the channels, at 16 kHz in [-1, 1].

    Raises:
        UserError: the recording is missing, empty, truncated, silent, too short, too long, cannot be decoded, or holds
            impossible samples.
    """
    if isinstance(recording, str | os.PathLike):
        path = Path(recording)
        with open_content(path) as file:
            return _read(file, name or str(path))
    name = name or "recording"
    return _read(io.BytesIO(_content(recording, name)), name)


def to_waveform(samples: np.ndarray, rate_hz: int, name: str = "samples") -> np.ndarray:
    """Convert samples to the project's form: the mean of the channels, resampled to 16 kHz.

    Args:
        samples: [N] or [N, channels]; signed 8, 16 or 32 bit, unsigned 8 bit, or float in [-1, 1].
        rate_hz: their rate.
        name: name of the recording in error messages.

    Returns:
        float32 [N] at 16 kHz in [-1, 1].

    Raises:
        UserError: a different shape or type, a rate that is not a whole number up to 1 MHz, or less than 32 ms of
            audible sound.
    """
    rate_hz = check_rate(rate_hz, name)
    try:
        samples = np.asarray(samples)
    except ValueError as error:
        raise UserError(f"{name}: expected an array of shape [N] or [N, channels]. Received: ragged rows") from error
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > max(samples.shape[0], 1)):
        raise UserError(
            f"{name}: expected shape [N] or [N, channels]. Received: shape={list(samples.shape)}; transpose "
            "[channels, N], and pass recordings one at a time"
        )
    if samples.size == 0:
        raise UserError(f"{name}: expected a sound. Received: no samples")
    check_recording_length(len(samples), rate_hz, name, channels=samples.size // len(samples))
    return _join(mixed_down([samples], rate_hz, name), name)


def mixed_down(blocks: Iterable[np.ndarray], rate_hz: int, name: str) -> Iterator[np.ndarray]:
    """The mean of a recording's channels at 16 kHz, block by block.

    Args:
        blocks: [n] or [n, channels] each, samples of the types that `to_waveform` accepts.
        rate_hz: their rate.
        name: name of the recording in error messages.

    Yields:
        float32 [m], the next samples.

    Raises:
        UserError: samples of an unknown type, not finite, or not scaled; or, after the last block, channels that cancel
            each other.
    """

    resampler = None
    if rate_hz != SAMPLE_RATE_HZ:
        resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=QUALITY)
    channel_level = mean_level = 0.0
    for block in blocks:
        scaled = _full_scale_one(block, name)
        several = scaled.ndim == 2 and scaled.shape[1] > 1
        mono = scaled.mean(axis=1, dtype=np.float32) if several else scaled.reshape(-1)
        channel_level = max(channel_level, float(np.abs(scaled).max()))
        mean_level = max(mean_level, float(np.abs(mono).max()))
        yield mono if resampler is None else resampler.resample_chunk(mono)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)
    check_channels(mean_level, channel_level, name)


def _content(recording: object, name: str) -> bytes:
    """The bytes of a recording in memory or of an open file."""
    content = recording.read() if hasattr(recording, "read") else recording
    if not isinstance(content, bytes | bytearray | memoryview):
        raise UserError(
            f"{name}: expected a path, bytes, or a file that is open in binary mode. "
            f"Received: {type(recording).__name__}; pass samples as an array and their rate as rate_hz"
        )
    return bytes(content)


def _read(file: BinaryIO, name: str) -> np.ndarray:
    with open_sound(file, name) as sound:
        return _join(mixed_down(sound.blocks, sound.rate_hz, name), name)


def _join(parts: Iterable[np.ndarray], name: str) -> np.ndarray:
    waveform = np.concatenate([np.empty(0, np.float32), *parts])
    check_is_audible(waveform, name)
    return np.clip(waveform, -1.0, 1.0)


def _full_scale_one(samples: np.ndarray, name: str) -> np.ndarray:
    """Samples of any type as finite float32, full scale 1."""
    if samples.dtype == np.uint8:  # the one unsigned format of wav files: 128 is zero
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype in (np.int8, np.int16, np.int32):
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.itemsize - 1))
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"{name}: expected int8, int16, int32, uint8 or float. Received: dtype={samples.dtype}")
    with np.errstate(over="ignore"):  # overflow becomes infinite and is refused
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
