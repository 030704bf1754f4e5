"""A recording of hours -> int16 samples at 16 kHz, block by block, so that memory grows with those samples alone."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from ser_tf.audio.checks import MAXIMUM_VALUES_PER_SECOND, check_is_audible
from ser_tf.audio.decoding import open_content, open_sound
from ser_tf.audio.vad import as_int16
from ser_tf.audio.waveform import mixed_down

MAXIMUM_SECONDS = 6 * 3600
"""Longer recordings are refused: their samples alone would be 700 MB."""
LARGEST_FILE_BYTES = MAXIMUM_SECONDS * MAXIMUM_VALUES_PER_SECOND
"""Six hours of the most samples that are taken, a byte each."""


def read_long_recording(path: Path) -> np.ndarray:
    """The samples that `vad.as_int16(read_waveform(path))` gives, of a recording of up to 6 hours, int16 [N].

    Raises:
        UserError: as `read_waveform`, but for the length.
    """
    with open_content(path, LARGEST_FILE_BYTES) as file:
        return read_long_sound(file, str(path))


def read_long_sound(file: BinaryIO, name: str, maximum_seconds: int = MAXIMUM_SECONDS) -> np.ndarray:
    """The same of an open file.

    Args:
        file: the recording.
        name: what an error message calls it.
        maximum_seconds: longer recordings are refused.

    Raises:
        UserError: as `read_waveform`, but for the length.
    """
    with open_sound(file, name, maximum_seconds) as sound:
        mixdown = mixed_down(sound.blocks, sound.rate_hz, name)
        samples = np.concatenate([np.empty(0, np.int16), *(as_int16(block) for block in mixdown)])
    check_is_audible(samples, name)
    return samples
