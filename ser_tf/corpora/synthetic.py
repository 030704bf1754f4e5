"""A corpus that the project synthesises, so that everything runs without recordings.

An utterance is speech-like: glottal pulses and breath noise through the formants of a speaker's vocal tract, syllables
with consonant bursts, silence at both ends and between two phrases, and background noise. Emotion is expressed in
pitch, range, tempo, energy and voice quality (`EMOTION_PROFILES`). Its strength varies so much from utterance to
utterance that the emotions overlap. File names are `syn-SS-EMOTION-TT`: speaker, emotion, take.
"""

import dataclasses
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from ser_tf.corpora.corpus import EMOTIONS
from ser_tf.corpora.kind import CorpusFacts, CorpusKind
from ser_tf.errors import UserError

NAME = "synthetic"
MANIFEST = "synthetic.json"
"""File in the corpus's directory with the parameters of the synthesis."""
VERSION = 1
"""Raised whenever the same parameters give different samples."""

RATES_HZ = (16_000, 22_050, 48_000)
"""Speakers 1, 2, 3, 4, ... are written at these rates in turn; every fourth speaker is written in stereo."""
STEREO_EVERY = 4
LEVEL_DBFS = -26.0
"""RMS level of neutral speech where it is voiced."""
CONSONANT_DB = -14.0
"""Energy of all consonants against that of all vowels."""
SNR_DB = 30.0
"""Neutral speech over the background noise, which has the same level in every utterance."""


@dataclass(frozen=True)
class EmotionProfile:
    """How an emotion sounds, relative to the speaker's own voice."""

    pitch_semitones: float = 0.0
    """Mean pitch."""
    range_semitones: float = 2.0
    """Standard deviation of the pitch accents of syllables."""
    ending_semitones: float = -2.0
    """Pitch movement on the last syllable."""
    tempo: float = 1.0
    """Factor on the rate of speaking."""
    energy_db: float = 0.0
    tilt_db_per_octave: float = 0.0
    """Spectral tilt: a pressed voice is bright (positive), a lax one dull."""
    breath_db: float = -20.0
    """Breath noise against glottal pulses."""
    jitter: float = 0.01
    """Irregularity of pulse times, in periods."""
    shimmer: float = 0.05
    """Irregularity of pulse heights."""


EMOTION_PROFILES: dict[str, EmotionProfile] = {
    "neutral": EmotionProfile(),
    "calm": EmotionProfile(-2.0, 1.2, -2.0, 0.90, -4.0, -1.0, -16.0, 0.01, 0.03),
    "happy": EmotionProfile(4.0, 4.5, 0.0, 1.12, 4.0, 1.5, -20.0, 0.01, 0.05),
    "sad": EmotionProfile(0.0, 1.2, -5.0, 0.75, -7.0, -3.5, -10.0, 0.03, 0.12),
    "angry": EmotionProfile(3.0, 3.5, -4.0, 1.15, 8.0, 4.0, -28.0, 0.03, 0.20),
    "fearful": EmotionProfile(6.0, 1.8, -1.0, 1.30, 0.0, -0.5, -11.0, 0.05, 0.15),
    "disgust": EmotionProfile(-2.0, 3.0, -6.0, 0.82, 2.0, 2.0, -18.0, 0.07, 0.30),
    "surprised": EmotionProfile(5.0, 5.5, 8.0, 1.00, 3.0, 0.5, -16.0, 0.01, 0.06),
}
STRENGTHS = (0.7, 1.3)
"""Range of the strength of an emotion: 0 would be neutral, 1 is the profile."""
SPREAD = EmotionProfile(1.0, 0.4, 0.8, 0.05, 1.2, 0.6, 2.0, 0.005, 0.02)
"""Standard deviation from utterance to utterance, for every emotion."""

_NAME = re.compile(r"syn-(?P<speaker>\d\d)-(?P<emotion>[a-z]+)-\d\d")
_LARGEST = 99
_PARTIAL = ".partial"

# Adult male formants of i, e, ae, a, o, u and the neutral vowel, in Hz (Peterson and Barney 1952; F4 and F5 rounded).
_VOWELS_HZ = np.array(
    [
        [270, 2290, 3010, 3500, 4500],
        [530, 1840, 2480, 3500, 4500],
        [660, 1720, 2410, 3500, 4500],
        [730, 1090, 2440, 3500, 4500],
        [570, 840, 2410, 3500, 4500],
        [300, 870, 2240, 3500, 4500],
        [500, 1500, 2500, 3500, 4500],
    ]
)
_BANDWIDTHS_HZ = np.array([60, 90, 150, 200, 250])
_WINDOW_SECONDS = 0.032

Floats = NDArray[np.float64]


def parse(name: str) -> tuple[str, str] | None:
    """Speaker and emotion of an utterance; None if it is not one of this corpus.

    Raises:
        UserError: the emotion is none of `EMOTIONS`.

    Example:
        >>> parse("syn-03-happy-01")
        ('synthetic:03', 'happy')
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    if match["emotion"] not in EMOTIONS:
        raise UserError(f"expected an emotion of {', '.join(EMOTIONS)}. Received: {match['emotion']}")
    return f"{NAME}:{match['speaker']}", match["emotion"]


def speaker_of(name: str) -> str | None:
    """The speaker, even if the emotion is unknown; None if this corpus has no such name."""
    match = _NAME.fullmatch(name)
    return f"{NAME}:{match['speaker']}" if match else None


CORPUS = CorpusKind(
    name=NAME,
    written="synthetic corpus",
    facts=CorpusFacts(
        title="the synthetic corpus of ser_tf",
        licence="none: a program made the recordings",
        terms="nothing",
        speech="nobody: synthetic voices, which say nothing about human emotion",
    ),
    emotions=EMOTIONS,
    parse=parse,
    speaker_of=speaker_of,
)


def synthesise(
    root: Path, *, speakers: int = 12, takes: int = 4, emotions: Sequence[str] = EMOTIONS, seed: int = 0
) -> Path:
    """Write the corpus as 16-bit wav files; existing files stay.

    Args:
        root: directory to write to: new, empty, or with this corpus, complete or not.
        speakers: 1 to 99; men have odd numbers.
        takes: utterances of each speaker and emotion, 1 to 99.
        emotions: some of `EMOTIONS`.
        seed: the same seed gives the same files; an utterance does not depend on the number of others.

    Returns:
        `root`.

    Raises:
        UserError: a parameter is out of range, `root` contains something else, or it cannot be written.
    """
    root = Path(root)
    for name, value in (("speakers", speakers), ("takes", takes)):
        if not 1 <= value <= _LARGEST:
            raise UserError(f"{name}: expected 1 to {_LARGEST}. Received: {value}")
    if seed < 0:
        raise UserError(f"seed: expected 0 or more. Received: {seed}")
    unknown = [emotion for emotion in emotions if emotion not in EMOTIONS]
    if unknown or not emotions:
        raise UserError(f"emotions: expected some of {', '.join(EMOTIONS)}. Received: {', '.join(unknown) or 'none'}")
    made_by = {
        "corpus": NAME,
        "version": VERSION,
        "speakers": speakers,
        "takes": takes,
        "emotions": list(emotions),
        "seed": seed,
    }
    try:
        _claim(root, made_by)
        for speaker, emotion, take in product(range(1, speakers + 1), emotions, range(1, takes + 1)):
            path = root / f"syn-{speaker:02d}-{emotion}-{take:02d}.wav"
            if not path.exists():
                wav = io.BytesIO()
                soundfile.write(wav, *render(speaker, emotion, take, seed), subtype="PCM_16", format="WAV")
                _write(path, wav.getvalue())
    except OSError as error:
        raise UserError(f"{root}: the synthetic corpus cannot be written here: {error.strerror}") from error
    return root


def render(speaker: int, emotion: str, take: int, seed: int = 0) -> tuple[Floats, int]:
    """One utterance.

    Args:
        speaker: number of the speaker, from 1.
        emotion: one of `EMOTIONS`.
        take: number of the take, from 1.
        seed: as for `synthesise`.

    Returns:
        Samples [N] or, in stereo, [N, 2] in [-1, 1], and their rate in Hz.
    """
    voice = _voice(speaker, np.random.default_rng([seed, speaker]))
    rng = np.random.default_rng([seed, speaker, EMOTIONS.index(emotion), take])
    manner = _manner(emotion, rng)
    timing = _timing(voice, manner, rng)
    rate_hz = RATES_HZ[(speaker - 1) % len(RATES_HZ)]
    samples = _speak(voice, manner, timing, rate_hz, rng)
    return (np.stack([samples, 0.8 * samples], axis=-1) if speaker % STEREO_EVERY == 0 else samples), rate_hz


@dataclass(frozen=True)
class _Voice:
    pitch_hz: float
    formant_scale: float
    tempo: float
    tilt_db_per_octave: float


@dataclass(frozen=True)
class _Timing:
    """When each syllable's consonant and vowel begin and end, in seconds; arrays [syllables]."""

    consonant: Floats
    vowel: Floats
    end: Floats
    total_seconds: float


def _voice(speaker: int, rng: np.random.Generator) -> _Voice:
    pitch_hz, formant_scale = (115.0, 1.0) if speaker % 2 else (205.0, 1.17)
    return _Voice(
        pitch_hz=pitch_hz * 2 ** (rng.normal(0, 2.0) / 12),
        formant_scale=formant_scale * rng.uniform(0.95, 1.05),
        tempo=rng.uniform(0.93, 1.07),
        tilt_db_per_octave=rng.normal(-6.0, 0.7),
    )


def _manner(emotion: str, rng: np.random.Generator) -> EmotionProfile:
    neutral, profile, spread = (
        np.array(dataclasses.astuple(each)) for each in (EmotionProfile(), EMOTION_PROFILES[emotion], SPREAD)
    )
    drawn = neutral + rng.uniform(*STRENGTHS) * (profile - neutral) + rng.normal(0, spread)
    manner = EmotionProfile(*drawn.tolist())
    return dataclasses.replace(
        manner,
        range_semitones=max(manner.range_semitones, 0.3),
        jitter=max(manner.jitter, 0.0),
        shimmer=max(manner.shimmer, 0.0),
    )


def _timing(voice: _Voice, manner: EmotionProfile, rng: np.random.Generator) -> _Timing:
    syllables = rng.integers(6, 8)
    tempo = voice.tempo * manner.tempo
    consonants = rng.uniform(0.05, 0.09, syllables) / tempo
    vowels = rng.uniform(0.09, 0.17, syllables) / tempo
    silences = np.zeros(syllables)
    silences[0] = rng.uniform(0.25, 0.45)
    silences[syllables // 2] = rng.uniform(0.25, 0.40)
    end = np.cumsum(silences + consonants + vowels)
    return _Timing(end - vowels - consonants, end - vowels, end, end[-1] + rng.uniform(0.25, 0.45))


def _speak(voice: _Voice, manner: EmotionProfile, timing: _Timing, rate_hz: int, rng: np.random.Generator) -> Floats:
    """Sources through a filter that changes with time: samples [N]."""
    from scipy import signal  # slow to import, and opening a corpus needs only the names

    length = round(timing.total_seconds * rate_hz)
    seconds = np.arange(length) / rate_hz
    loudness = _db(rng.normal(0, 1.5, timing.vowel.size))[:, None] * [0.0, 1.0, 0.8, 0.0]
    points = np.stack([timing.vowel, timing.vowel + 0.02, timing.end - 0.03, timing.end], axis=1)
    voicing = np.interp(seconds, points.ravel(), loudness.ravel())
    pulses = _glottal_pulses(_pitch_hz(voice, manner, timing, seconds, rng), manner, rate_hz, rng) * voicing
    breath = rng.standard_normal(length) * voicing * _db(manner.breath_db)
    window = 2 * round(_WINDOW_SECONDS / 2 * rate_hz)
    hz, at_seconds, (pulses_f, breath_f, noise_f) = signal.stft(
        np.stack([pulses, breath, rng.standard_normal(length)]), rate_hz, nperseg=window
    )
    tilt = _tilt(hz, voice.tilt_db_per_octave + manner.tilt_db_per_octave)
    voiced = _formants(voice, timing, hz, at_seconds, rng) * (pulses_f * tilt + breath_f * _tilt(hz, -4.0))
    bursts = noise_f * _bursts(timing, hz, at_seconds, rng)
    speech = signal.istft(_unit(voiced) + _db(CONSONANT_DB) * _unit(bursts), rate_hz, nperseg=window)[1][:length]
    room = signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(length))
    speech *= _db(LEVEL_DBFS + manner.energy_db) / _rms(speech[voicing > 0.1])
    samples = speech + _db(LEVEL_DBFS - SNR_DB) * _unit(room)
    return samples * min(1.0, 0.95 / np.abs(samples).max())


def _pitch_hz(
    voice: _Voice, manner: EmotionProfile, timing: _Timing, seconds: Floats, rng: np.random.Generator
) -> Floats:
    """Accents of the syllables on a line that falls by three semitones, and the movement at the end."""
    middles = (timing.vowel + timing.end) / 2
    accents = rng.normal(0, manner.range_semitones, middles.size)
    contour = manner.pitch_semitones + accents - accents.mean() + np.linspace(1.5, -1.5, middles.size)
    semitones = np.interp(seconds, [*middles, timing.end[-1]], [*contour, contour[-1] + manner.ending_semitones])
    return voice.pitch_hz * 2 ** (semitones / 12)


def _glottal_pulses(pitch_hz: Floats, manner: EmotionProfile, rate_hz: int, rng: np.random.Generator) -> Floats:
    """One impulse a period, shared between the two samples nearest to it; flat spectrum, power 1."""
    cycles = np.cumsum(pitch_hz) / rate_hz
    first = np.flatnonzero(np.diff(np.floor(cycles)))
    period = rate_hz / pitch_hz[first]
    at = first + (np.ceil(cycles[first]) - cycles[first]) * period
    at = np.clip(at + period * rng.normal(0, manner.jitter, at.size), 0, pitch_hz.size - 2)
    height = np.sqrt(period) * (1 + rng.normal(0, manner.shimmer, at.size))
    whole, part = np.floor(at).astype(int), at % 1
    pulses = np.zeros(pitch_hz.size)
    np.add.at(pulses, whole, height * (1 - part))
    np.add.at(pulses, whole + 1, height * part)
    return pulses


def _formants(
    voice: _Voice, timing: _Timing, hz: Floats, at_seconds: Floats, rng: np.random.Generator
) -> NDArray[np.complex128]:
    """Resonators in cascade, gliding from vowel to vowel: gains [frequencies, frames], 1 at 0 Hz."""
    vowels = _VOWELS_HZ[rng.integers(len(_VOWELS_HZ), size=timing.vowel.size)] * voice.formant_scale
    middles = (timing.vowel + timing.end) / 2
    gains = np.ones((hz.size, at_seconds.size), complex)
    for targets, bandwidth_hz in zip(vowels.T, _BANDWIDTHS_HZ, strict=True):
        centre = np.interp(at_seconds, middles, targets)
        poles = centre**2 + (bandwidth_hz / 2) ** 2
        gains *= poles / (poles - hz[:, None] ** 2 + 1j * bandwidth_hz * hz[:, None])
    return gains


def _bursts(timing: _Timing, hz: Floats, at_seconds: Floats, rng: np.random.Generator) -> Floats:
    """A band of noise for each consonant: gains [frequencies, frames]."""
    shape = (timing.vowel.size, 1, 1)
    centre, width = rng.uniform(1800, 6000, shape), rng.uniform(400, 1200, shape)
    loudness = _db(rng.uniform(-12, -2, shape))
    middle, half = (timing.consonant + timing.vowel) / 2, (timing.vowel - timing.consonant) / 2
    when = np.clip(1 - np.abs(at_seconds - middle[:, None]) / half[:, None], 0, None)[:, None, :]
    where = np.exp(-0.5 * ((hz[:, None] - centre) / width) ** 2)
    return (loudness * where * when).sum(axis=0)


def _tilt(hz: Floats, db_per_octave: float) -> Floats:
    """Gains [frequencies, 1] with a slope above 200 Hz."""
    return _db(db_per_octave * np.log2(np.maximum(hz, 200.0) / 200.0))[:, None]


def _db(level_db: Any) -> Any:
    return 10 ** (np.asarray(level_db) / 20)


def _rms(values: NDArray[Any]) -> float:
    return float(np.sqrt(np.mean(np.abs(values) ** 2)))


def _unit(values: NDArray[Any]) -> NDArray[Any]:
    return values / _rms(values)


def _claim(root: Path, made_by: dict[str, Any]) -> None:
    """Claim a new or empty directory, or check that it is this corpus. The manifest comes first, to survive a kill."""
    root.mkdir(parents=True, exist_ok=True)
    manifest = root / MANIFEST
    if manifest.exists():
        found = manifest.read_text(encoding="utf-8", errors="replace")
        if found != _manifest_text(made_by):
            raise UserError(
                f"{manifest}: expected {json.dumps(made_by)}. Received: {' '.join(found.split())}; "
                "choose another directory, or remove this one"
            )
        return
    others = sorted(path.name for path in root.iterdir() if path.suffix != _PARTIAL)
    if others:
        raise UserError(f"{root}: expected a new or empty directory. Received: one with {others[0]}; choose another")
    _write(manifest, _manifest_text(made_by).encode())


def _manifest_text(made_by: dict[str, Any]) -> str:
    return json.dumps(made_by, indent=2) + "\n"


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically, also if two processes write it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}{_PARTIAL}")
    partial.write_bytes(data)
    partial.replace(path)
