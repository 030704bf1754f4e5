"""recording -> speech, in the one step that the speech cache and the shards share."""

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
"""To be raised when the same recording and configuration give other speech than before, or caches another header."""

Decode = Callable[[bytes, str], np.ndarray]
"""Content of a file and its name for messages -> waveform, as `read_waveform` does."""


class Recording(NamedTuple):
    """What is kept of a recording.

    Attributes:
        speech: its samples without silence.
        sample_hash: names what was heard, see `sample_hash`.
        seconds: its length with the silence.
    """

    speech: Speech
    sample_hash: int
    seconds: float


def speech_of(content: bytes, name: str, config: Config, decode: Decode) -> Recording:
    """Decode, resample and remove silence.

    Args:
        content: the bytes of the file.
        name: what an error message calls the recording.
        config: the silence removal.
        decode: what `decoder_of` gave.

    Raises:
        UserError: the recording cannot be used; the line says why.
    """
    waveform = decode(content, name)
    speech = remove_silence(waveform, config.vad, name)
    return Recording(speech, sample_hash(waveform), len(waveform) / SAMPLE_RATE_HZ)


def sample_hash(waveform: np.ndarray) -> int:
    """64 bits that name a recording by what is heard in it, whatever file holds it.

    They are the BLAKE2b digest of the whole waveform, silence included, mono at 16 kHz and rounded to 16 bit, little
    endian. So a wav and its flac agree, at any rate; a lossy copy (ogg, mp3, m4a), a cut one, and one that another
    program resampled do not. That two of ten million recordings agree by chance has a probability of 3e-6.

    Args:
        waveform: float32 [N] mono 16 kHz in [-1, 1].
    """
    samples = as_int16(waveform).astype("<i2")
    return int.from_bytes(hashlib.blake2b(samples.tobytes(), digest_size=8).digest(), "big")


def decoder_of(config: Config) -> Decode:
    """The decoder that the configuration names.

    Raises:
        UserError: it is the `tfio` backend, and that does not work here.
    """
    if config.audio.backend == "soundfile":
        return read_waveform
    from ser_tf.audio import tfio_backend  # an extra: only who chooses it needs it

    tfio_backend.require()
    return lambda content, name: to_waveform(*tfio_backend.decode(content, name), name)


def speech_key(config: Config) -> str:
    """16 hex digits that name what the speech depends on, beside the recording."""
    line = [FORMAT_VERSION, SAMPLE_RATE_HZ, config.audio.backend, dataclasses.asdict(config.vad)]
    return hashlib.sha256(json.dumps(line, sort_keys=True).encode()).hexdigest()[:16]
