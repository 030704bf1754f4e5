"""`python -m benchmarks.vad_agreement --corpus DIR`: how often the detector in TensorFlow decides as WebRTC does."""

import sys
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf
import tyro

from ser_tf.audio.vad import as_int16, remove_silence, voiced
from ser_tf.audio.vad_graph import remove_silence_in_graph, voiced_frames
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import VadConfig
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError

BATCH_SIZE = 64


def main(
    corpus: Path,
    modes: tuple[Literal[0, 1, 2, 3], ...] = (2,),
    frame_milliseconds: tuple[Literal[10, 20, 30], ...] = (30,),
    every: int = 1,
) -> None:
    """Print how many frames, and the speech of how many recordings, are the same in both.

    Args:
        corpus: folder of the recordings.
        modes: aggressiveness of the detector.
        frame_milliseconds: lengths of a frame.
        every: use every Nth recording.

    Raises:
        UserError: the corpus or a recording cannot be read, or `every` is below 1.
    """
    if every < 1:
        raise UserError(f"every: expected at least 1. Received: {every}")
    opened = open_corpus(corpus)
    waveforms = [read_waveform(utterance.path) for utterance in opened.utterances[::every]]
    for mode, milliseconds in product(modes, frame_milliseconds):
        config = VadConfig(mode=mode, frame_milliseconds=milliseconds)
        print(f"{opened.name}, mode {mode}, {milliseconds} ms: {_agreement(waveforms, config)}", flush=True)


def _agreement(waveforms: list[np.ndarray], config: VadConfig) -> str:
    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int16), tf.TensorSpec([None], tf.int32)])
    def in_graph(samples: tf.Tensor, lengths: tf.Tensor) -> tuple[tf.Tensor, ...]:
        return voiced_frames(samples, lengths, config), *remove_silence_in_graph(samples, lengths, config)

    frame_samples = config.frame_samples()
    frames, same_frames, same_speech = 0, 0, 0
    for start in range(0, len(waveforms), BATCH_SIZE):
        batch = waveforms[start : start + BATCH_SIZE]
        lengths = [len(waveform) for waveform in batch]
        samples = np.zeros((len(batch), max(lengths)), np.int16)
        for row, waveform in zip(samples, batch, strict=True):
            row[: len(waveform)] = as_int16(waveform)
        results = (each.numpy() for each in in_graph(samples, lengths))
        for waveform, is_speech, speech, length, kept_whole in zip(batch, *results, strict=True):
            whole = len(waveform) // frame_samples
            expected = voiced(waveform, config)[::frame_samples][:whole]
            frames += whole
            same_frames += int(np.count_nonzero(is_speech[:whole] == expected))
            reference = remove_silence(waveform, config)
            same_speech += np.array_equal(speech[:length], reference.samples) and kept_whole == reference.kept_whole
    return (
        f"{same_frames} of {frames} frames ({100 * same_frames / frames:.4f} %), "
        f"the same speech in {same_speech} of {len(waveforms)} recordings ({100 * same_speech / len(waveforms):.3f} %)"
    )


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
