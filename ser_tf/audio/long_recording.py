"""A recording of hours -> int16 samples at 16 kHz, block by block, so that memory grows with those samples alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soxr

from ser_tf.audio import waveform
from ser_tf.audio.vad import as_int16
from ser_tf.config import SAMPLE_RATE_HZ

MAXIMUM_SECONDS = 6 * 3600
"""Longer recordings are refused: their samples alone would be 700 MB."""
BLOCK_SECONDS = 10


def read_long_recording(path: Path) -> np.ndarray:
    """The samples that `vad.as_int16(read_waveform(path))` gives, of a recording of up to 6 hours, int16 [N].

    An m4a file is decoded at once, and takes more memory than others while it is.

    Raises:
        UserError: as `read_waveform`, but for the length.
    """
    name = str(path)
    blocks = [as_int16(block) for block in _at_16_khz(path, name)]
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.int16)
    waveform.check_is_audible(samples, name)
    return samples


def _at_16_khz(path: Path, name: str) -> Iterator[np.ndarray]:
    """The waveform in pieces, float32."""
    resampler = None
    for block, rate_hz in _decoded(path, name):
        mono = waveform.to_mono(block, name)
        if rate_hz == SAMPLE_RATE_HZ:
            yield mono
            continue
        if resampler is None:
            resampler = soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=waveform.QUALITY)
        yield resampler.resample_chunk(mono)
    if resampler is not None:
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)


def _decoded(path: Path, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Blocks [N, channels] of the recording, and its rate."""
    with waveform.open_content(path) as file:
        if waveform.is_mp4(file.read(8)):
            from ser_tf.audio import m4a_backend  # an extra: only who has such files needs it

            file.seek(0)
            yield m4a_backend.decode(file.read(), name, MAXIMUM_SECONDS)
            return
        file.seek(0)
        with waveform.open_recording(file, name, MAXIMUM_SECONDS) as recording:
            samples = 0
            for block in recording.blocks(BLOCK_SECONDS * recording.samplerate, dtype="float32", always_2d=True):
                samples += len(block)
                yield block, recording.samplerate
            waveform.check_is_whole(samples, recording, name)
