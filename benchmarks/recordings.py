"""The measured recordings: synthetic ones at 48 kHz, the rate of RAVDESS, or a sample of a given corpus."""

import dataclasses
import random
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

from ser_tf.corpora.corpus import EMOTIONS, Corpus, Utterance
from ser_tf.corpora.opening import open_corpus
from ser_tf.corpora.speakers import find_recordings
from ser_tf.corpora.synthetic import RATES_HZ, render

SPEAKERS = 6
TAKES = 8
LARGEST_SAMPLE = SPEAKERS * TAKES * len(EMOTIONS)
RATE_HZ = 48_000


def synthetic_corpus(folder: Path) -> Corpus:
    """Write the synthetic corpus's speakers with recordings at 48 kHz."""
    first = RATES_HZ.index(RATE_HZ) + 1
    speakers = range(first, first + SPEAKERS * len(RATES_HZ), len(RATES_HZ))
    folder.mkdir(parents=True)
    for speaker, emotion, take in product(speakers, EMOTIONS, range(1, TAKES + 1)):
        samples, rate_hz = render(speaker, emotion, take)
        soundfile.write(folder / f"syn-{speaker:02d}-{emotion}-{take:02d}.wav", samples, rate_hz, subtype="PCM_16")
    return open_corpus(folder)


def speakers_of(root: Path) -> Corpus:
    """A folder of speakers, without emotions."""
    found = find_recordings(root)
    utterances = tuple(Utterance(each.name, each.path, each.speaker, "") for each in sorted(found))
    return Corpus(root.resolve().name, root, utterances, (), (), ())


def sample_of(corpus: Corpus, size: int = LARGEST_SAMPLE) -> Corpus:
    """The corpus with at most `size` of its utterances; always the same random sample."""
    drawn = random.Random(0).sample(corpus.utterances, min(size, len(corpus.utterances)))
    return dataclasses.replace(corpus, utterances=tuple(sorted(drawn, key=lambda utterance: utterance.name)))


def write_clip(path: Path, corpus: Corpus, seconds: float) -> None:
    """Write a recording of exactly this length by repeating or cutting one of the corpus."""
    samples, rate_hz = soundfile.read(corpus.utterances[0].path, always_2d=True)
    clip = samples[np.arange(round(seconds * rate_hz)) % len(samples)]
    soundfile.write(path, clip, rate_hz, subtype="PCM_16")
