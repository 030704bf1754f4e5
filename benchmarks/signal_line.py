"""Decoding, resampling, silence removal and spectrogram, against the same steps with librosa.

librosa has no detector like WebRTC's (`librosa.effects.split` uses loudness), so both sides remove silence with
`ser_tf.audio.vad.remove_silence`. The difference of the spectrograms is measured too. The pipeline uses all cores; its
first epoch decodes and fills the cache, later ones read it.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import librosa
import numpy as np
import soundfile

from benchmarks.measuring import Ratio, Row, take_turns
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import SAMPLE_RATE_HZ, Config, SpectrogramConfig
from ser_tf.corpora.corpus import Corpus
from ser_tf.pipeline import PreparedSpeech, evaluation_batches, inputs_of, prepare_speech

CONFIG = Config(spectrogram=SpectrogramConfig(compression="none", normalisation="global"))


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    paths = [utterance.path for utterance in corpus.utterances]
    caches = (scratch / f"signal-{number}" for number in count())
    prepared = prepare_speech(corpus.utterances, CONFIG, next(caches))

    sides = {
        "librosa, one recording after another": lambda: [_with_librosa(path) for path in paths],
        "ser_tf, one recording after another": lambda: [_with_ser_tf(path) for path in paths],
        "ser_tf, pipeline, first epoch": lambda: _epoch(prepare_speech(corpus.utterances, CONFIG, next(caches))),
        "ser_tf, pipeline, every later epoch": lambda: _epoch(prepared),
    }
    hours = sum(soundfile.info(path).duration for path in paths) / 3600
    reference, *others = take_turns(*sides.values())
    for name, seconds in zip(sides, (reference, *others), strict=True):
        ratio = None if seconds is reference else Ratio.of(reference, seconds, "librosa")
        yield Row(name, hours / np.median(seconds), "h audio/s", ratio)
    difference = max(np.abs(_with_librosa(path) - _with_ser_tf(path)).max() for path in paths[:10])
    yield Row("largest difference between the two spectrograms", float(difference), "deviations")


def _with_librosa(path: Path) -> np.ndarray:
    waveform, _ = librosa.load(path, sr=SAMPLE_RATE_HZ)
    speech = remove_silence(waveform, CONFIG.vad).waveform
    magnitude = np.abs(librosa.stft(speech, n_fft=512, hop_length=160, window="hamming", center=False)).T
    return (magnitude - magnitude.mean()) / magnitude.std()


def _with_ser_tf(path: Path) -> np.ndarray:
    inputs = inputs_of(remove_silence(read_waveform(path), CONFIG.vad).waveform, CONFIG)
    return inputs["spectrogram"][0, : int(inputs["frames"][0])]


def _epoch(prepared: PreparedSpeech) -> None:
    for _ in evaluation_batches(prepared.items, CONFIG):
        pass
