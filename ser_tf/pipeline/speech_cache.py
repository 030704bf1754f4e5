"""recordings -> speech on disk: decoded, resampled and stripped of silence once, then read by every epoch of every run.

A cached file is a header of 20 bytes (`kept_whole`, number of samples, CRC-32, unsigned 32 bit each, and `sample_hash`,
unsigned 64 bit) and the samples as int16, all little endian, so that `tf.io.decode_raw` reads it. Its name is the
recording's SHA-256 and its folder the configuration's hash, so nothing becomes stale and two processes write the same
bytes. The CRC-32 covers the name and the rest of the file. Files with a wrong CRC, damaged or from an older version,
are written again.
"""

import hashlib
import os
import struct
import sys
import tempfile
import warnings
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from ser_tf.audio.decoding import read_content
from ser_tf.audio.recording import Decode, decoder_of, speech_key, speech_of
from ser_tf.audio.vad import Speech
from ser_tf.config import Config
from ser_tf.corpora.corpus import Utterance
from ser_tf.errors import UserError

_HEADER = struct.Struct("<IIIQ")
HEADER_WORDS = _HEADER.size // 2
"""int16 words before the samples."""


@dataclass(frozen=True)
class SpeechFile:
    """The cached speech of one utterance.

    Attributes:
        utterance: its recording, speaker and emotion.
        path: the cached file.
        samples: its length at 16 kHz.
        kept_whole: too little speech was found, so no silence was removed.
        content_hash: SHA-256 of the recording.
        sample_hash: identifies the recording, see `ser_tf.audio.recording`.
    """

    utterance: Utterance
    path: Path
    samples: int
    kept_whole: bool
    content_hash: str
    sample_hash: int

    @property
    def waveform(self) -> np.ndarray:
        """The speech, float32 [N] in [-1, 1] at 16 kHz."""
        return Speech(np.fromfile(self.path, "<i2")[HEADER_WORDS:], self.kept_whole).waveform


@dataclass(frozen=True)
class PreparedSpeech:
    """The speech of a corpus and its unreadable recordings, each in the order of the utterances.

    Attributes:
        items: the readable utterances.
        failures: the others, each with the reason in one line.
    """

    items: tuple[SpeechFile, ...]
    failures: tuple[tuple[Utterance, str], ...]

    @cached_property
    def data_hash(self) -> str:
        """16 hex digits that identify these recordings, speakers and emotions."""
        pairs = ((item.utterance, item.content_hash) for item in self.items)
        lines = sorted(f"{who.name} {who.speaker} {who.emotion} {content_hash}\n" for who, content_hash in pairs)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def prepare_speech(utterances: Sequence[Utterance], config: Config, directory: Path | None = None) -> PreparedSpeech:
    """Put the speech of every utterance into the cache, unless it is already there.

    Recordings are processed in parallel, one per core, and only their lengths stay in memory. Several processes may use
    the cache, and any of them may be killed.

    Args:
        utterances: what to prepare.
        config: decoder and silence removal.
        directory: the cache; by default `default_directory()`.

    Returns:
        One file per utterance. Unusable recordings do not stop the others; a warning names each.

    Raises:
        UserError: no recording can be used, the cache cannot be written, or the `tfio` backend does not work here.
    """
    directory = directory or default_directory()
    prepare = partial(_prepare, config=config, decode=decoder_of(config), directory=directory / speech_key(config))
    console = Console(file=sys.stderr)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        outcomes = list(
            track(
                pool.map(prepare, utterances),
                "preparing speech",
                total=len(utterances),
                console=console,
                transient=True,
                disable=not console.is_terminal,
            )
        )
    items = tuple(outcome for outcome in outcomes if isinstance(outcome, SpeechFile))
    failures = tuple(
        (utterance, outcome)
        for utterance, outcome in zip(utterances, outcomes, strict=True)
        if isinstance(outcome, str)
    )
    if failures and not items:
        raise UserError(
            f"expected readable recordings. Received: {len(failures)} that are not, such as {failures[0][1]}"
        )
    for _, reason in failures:
        warnings.warn(f"left out: {reason}", stacklevel=1)
    return PreparedSpeech(items, failures)


def default_directory() -> Path:
    """The user's cache: $SER_TF_CACHE, or ser_tf/speech in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("SER_TF_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ser_tf" / "speech"


def _prepare(utterance: Utterance, config: Config, decode: Decode, directory: Path) -> SpeechFile | str:
    """The cached file of an utterance, or the reason why there is none."""
    name = str(utterance.path)
    try:
        content = read_content(utterance.path)
        content_hash = hashlib.sha256(content).hexdigest()
        path = directory / content_hash[:2] / f"{content_hash}.speech"
        cached = _read(path)
        speech, sample_hash = cached or speech_of(content, name, config, decode)[:2]
    except UserError as error:
        return str(error)
    if cached is None:
        _write(path, speech, sample_hash)
    return SpeechFile(utterance, path, len(speech.samples), speech.kept_whole, content_hash, sample_hash)


def _read(path: Path) -> tuple[Speech, int] | None:
    """Speech and sample hash of a cached file; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
        kept_whole, count, _, sample_hash = _HEADER.unpack_from(content)
    except (OSError, struct.error):
        return None
    body = content[_HEADER.size :]
    if len(body) != 2 * count or _packed(path, kept_whole, body, sample_hash) != content:
        return None
    return Speech(np.frombuffer(body, "<i2"), bool(kept_whole)), sample_hash


def _write(path: Path, speech: Speech, sample_hash: int) -> None:
    """Write the whole file or none of it."""
    content = _packed(path, speech.kept_whole, speech.samples.astype("<i2").tobytes(), sample_hash)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".partial", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
        temporary.replace(path)
    except OSError as error:
        raise UserError(
            f"{path.parents[2]}: the speech cache cannot be written ({error.strerror}); free some space or choose "
            "a different directory with the environment variable SER_TF_CACHE"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _packed(path: Path, kept_whole: int, body: bytes, sample_hash: int) -> bytes:
    """Content of the file at that path."""
    count = len(body) // 2
    checksum = zlib.crc32(path.name.encode() + _HEADER.pack(kept_whole, count, 0, sample_hash) + body)
    return _HEADER.pack(kept_whole, count, checksum, sample_hash) + body
