"""recording -> speech: the step that the speech cache and the shards share."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ser_tf.audio.vad import Speech, as_int16, remove_silence
from ser_tf.audio.waveform import read_waveform, to_waveform
from ser_tf.config import SAMPLE_RATE_HZ, Config

FORMAT_VERSION = 2
"""Raise this when a recording and configuration give different speech than before, or cached files a new header."""

Decode = Callable[[bytes, str], np.ndarray]
"""Content of a file and its name for messages -> waveform, as `read_waveform` does."""


class Recording(NamedTuple):
    """The speech of a recording.

    Attributes:
        speech: its samples without silence.
        sample_hash: identifies the recording, see `sample_hash`.
        seconds: its length with silence.
    """

    speech: Speech
    sample_hash: int
    seconds: float


def speech_of(content: bytes, name: str, config: Config, decode: Decode) -> Recording:
    """Decode, resample and remove silence.

    Args:
        content: the bytes of the file.
        name: name of the recording in error messages.
        config: the silence removal.
        decode: from `decoder_of`.

    Raises:
        UserError: the recording cannot be used; the message says why.
    """
    waveform = decode(content, name)
    speech = remove_silence(waveform, config.vad, name)
    return Recording(speech, sample_hash(waveform), len(waveform) / SAMPLE_RATE_HZ)


def sample_hash(waveform: np.ndarray) -> int:
    """64 bits that identify a recording by its sound, independent of its file.

    They are the BLAKE2b digest of the whole waveform, silence included, mono at 16 kHz, rounded to 16 bit, little
    endian. A wav and its flac agree, at any rate. Lossy copies (ogg, mp3, m4a), cut copies and copies resampled by a
    different program do not. Among ten million recordings, two agree by chance with a probability of 3e-6.

    Args:
        waveform: float32 [N] mono 16 kHz in [-1, 1].
    """
    samples = as_int16(waveform).astype("<i2")
    return int.from_bytes(hashlib.blake2b(samples.tobytes(), digest_size=8).digest(), "big")


def decoder_of(config: Config) -> Decode:
    """The decoder chosen in the configuration.

    Raises:
        UserError: it is `tfio`, which does not work here.
    """
    if config.audio.backend == "soundfile":
        return read_waveform
    from ser_tf.audio import tfio_backend  # an extra

    tfio_backend.require_tfio()
    return lambda content, name: to_waveform(*tfio_backend.decode(content, name), name)


def speech_key(config: Config) -> str:
    """16 hex digits that identify everything the speech depends on except the recording."""
    line = [FORMAT_VERSION, SAMPLE_RATE_HZ, config.audio.backend, dataclasses.asdict(config.vad)]
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]
