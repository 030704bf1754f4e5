"""Bounds on the length, rate and level of a recording. Anything outside is refused in one line."""

import operator

import numpy as np

from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import UserError

MINIMUM_SAMPLES = 512
"""32 ms: one analysis window, the minimum for a spectrogram."""
MAXIMUM_RECORDING_SECONDS = 600
"""Longer recordings are refused before decoding, so that none can fill the memory."""
MINIMUM_RATE_HZ, MAXIMUM_RATE_HZ = 1_000, 1_000_000
"""At a lower rate, as in a damaged header, a few kilobytes would become hours."""
MAXIMUM_VALUES_PER_SECOND = 8 * 192_000
"""Samples of all channels. A header that promises more over the longest recording is refused unread."""
LARGEST_LEVEL = 1.5
"""Lossy codecs and resamplers overshoot full scale by up to a fifth; samples above this were never scaled."""
SILENT_LEVEL = 0.5 / 2**15
"""Lower levels round to zero in 16 bit."""
LEAST_SHARE_OF_CHANNELS = 0.01
"""Minimum level of the channels' mean, as a share of the loudest channel's; opposite channels leave less (-40 dB)."""


class TruncatedRecording(UserError):
    """A recording that holds less than its container promises."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"{name}: truncated: {where}; fetch it again")


def check_rate(rate_hz: object, name: str) -> int:
    """The rate of a recording, as an int.

    Raises:
        UserError: it is not a whole number from 1 kHz to 1 MHz.
    """
    try:
        rate = 0 if isinstance(rate_hz, bool) else operator.index(rate_hz)  # type: ignore[arg-type]
    except TypeError:
        rate = 0
    if not MINIMUM_RATE_HZ <= rate <= MAXIMUM_RATE_HZ:
        raise UserError(
            f"{name}: expected a rate in Hz, a whole number from {MINIMUM_RATE_HZ:,} to {MAXIMUM_RATE_HZ:,}. "
            f"Received: rate_hz={rate_hz!r}"
        )
    return rate


def check_recording_length(
    samples: int, rate_hz: int, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS, channels: int = 1
) -> None:
    """Refuse a recording that is too long, or has too many channels for its length.

    Args:
        samples: per channel.
        rate_hz: their rate.
        name: name of the recording in error messages.
        maximum_seconds: its maximum length.
        channels: its number of channels.

    Raises:
        UserError: it lasts more than `maximum_seconds`, or its channels together hold too many samples.
    """
    if samples > maximum_seconds * rate_hz:
        raise UserError(
            f"{name}: expected a recording of at most {maximum_seconds} s. "
            f"Received: {samples / rate_hz:.1f} s; cut it into utterances"
        )
    most = maximum_seconds * MAXIMUM_VALUES_PER_SECOND
    if samples * channels > most:
        raise UserError(
            f"{name}: expected at most {most:,} samples in all channels. "
            f"Received: {channels} channels of {samples:,}; take fewer channels or a lower rate"
        )


def check_is_audible(waveform: np.ndarray, name: str) -> None:
    """Refuse a waveform that is too short or silent.

    Args:
        waveform: [N] at 16 kHz, float of full scale 1 or int16.
        name: name of the recording in error messages.

    Raises:
        UserError: it holds less than 32 ms of sound.
    """
    seconds = len(waveform) / SAMPLE_RATE_HZ
    if not len(waveform):
        raise UserError(f"{name}: expected a sound. Received: no samples")
    if len(waveform) < MINIMUM_SAMPLES:
        raise UserError(
            f"{name}: expected at least {1000 * MINIMUM_SAMPLES // SAMPLE_RATE_HZ} ms of sound. "
            f"Received: {1000 * seconds:.1f} ms"
        )
    if np.abs(waveform).max() < SILENT_LEVEL:
        raise UserError(f"{name}: expected a sound. Received: {seconds:.1f} s that are silent")


def check_channels(mean_level: float, channel_level: float, name: str) -> None:
    """Refuse channels that cancel each other.

    Args:
        mean_level: of the loudest sample of their mean.
        channel_level: of the loudest sample in any of them.
        name: what an error message calls the recording.

    Raises:
        UserError: little but rounding is left.
    """
    if channel_level >= SILENT_LEVEL and mean_level < LEAST_SHARE_OF_CHANNELS * channel_level:
        raise UserError(
            f"{name}: expected channels whose mean is a sound. Received: channels that cancel each other (opposite "
            "phase); give one of them"
        )
