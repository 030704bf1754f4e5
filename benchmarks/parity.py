"""`python -m benchmarks.parity RUN CORPUS ...`: a run and its export, asked about the same recordings."""

import dataclasses
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tyro

from ser_tf.corpora import open_corpus
from ser_tf.errors import UserError

BATCH = 8


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Print, per corpus and engine, how far its answers are from those of the live Python line."""

    run: tyro.conf.Positional[Path]
    """Folder of a finished run."""
    corpora: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of RAVDESS or CREMA-D, or tables."""
    recordings: int = 200
    """Of each corpus, drawn at random but always the same."""


def main(arguments: Arguments) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from ser_tf.audio.waveform import read_waveform
    from ser_tf.serving.export import export
    from ser_tf.serving.predict import load_run

    live = load_run(arguments.run)
    with tempfile.TemporaryDirectory() as folder:
        engines = engines_of(export(arguments.run, Path(folder), ""), live.config)
    print(
        "| corpus | recordings | engine | same emotion | probability, largest difference | median | 99th percentile "
        "| embedding, largest difference | other speech |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for path in arguments.corpora:
        corpus = open_corpus(path)
        drawn = random.Random(0).sample(corpus.utterances, min(arguments.recordings, len(corpus.utterances)))
        waveforms = [read_waveform(utterance.path) for utterance in drawn]
        predictions = [live(waveform, 16_000) for waveform in waveforms]
        expected = {
            "emotion": np.array([prediction.emotion for prediction in predictions]),
            "probabilities": np.array([list(prediction.probabilities.values()) for prediction in predictions]),
            "embedding": np.array([prediction.embedding for prediction in predictions]),
            "speech_seconds": np.array([prediction.speech_seconds for prediction in predictions]),
        }
        for name, answers_to in engines.items():
            print(f"| {corpus.name} | {len(drawn)} | {name} | {_cells(expected, answers_to(waveforms))} |", flush=True)


def engines_of(version: Path, config) -> dict[str, Callable]:
    """Per engine, from waveforms to the answers to them all."""
    import tensorflow as tf

    from ser_tf.audio.vad import remove_silence

    saved = tf.saved_model.load(str(version))

    def alone(waveforms):
        return joined(saved.signatures["serving_default"](waveform=tf.constant(one[None])) for one in waveforms)

    def in_batches(signature, waveforms):
        return joined(saved.signatures[signature](**batch) for batch in batches(waveforms))

    def batches(waveforms) -> Iterator[dict]:
        for start in range(0, len(waveforms), BATCH):
            some = waveforms[start : start + BATCH]
            longest = max(map(len, some))
            rows = np.stack([np.pad(one, (0, longest - len(one))) for one in some])
            yield {"waveform": tf.constant(rows), "length": tf.constant([len(one) for one in some])}

    def joined(answers) -> dict[str, np.ndarray]:
        names = ("emotion", "probabilities", "embedding", "speech_seconds", "problem")
        kept = [{name: answer[name].numpy() for name in names} for answer in answers]
        return {name: np.concatenate([answer[name] for answer in kept]) for name in names}

    return {
        "SavedModel, `serving_default`": alone,
        f"SavedModel, `padded`, {BATCH} at a time": lambda waveforms: in_batches("padded", waveforms),
        "SavedModel, `speech` after py-webrtcvad": lambda waveforms: in_batches(
            "speech", [remove_silence(one, config.vad).waveform for one in waveforms]
        ),
    }


def _cells(expected: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> str:
    assert not found["problem"].any(), found["problem"]
    same = np.mean(np.char.decode(found["emotion"].astype("S")) == expected["emotion"])
    probability = np.abs(found["probabilities"] - expected["probabilities"]).max(axis=1)
    embedding = np.abs(found["embedding"] - expected["embedding"]).max()
    other = np.mean(np.abs(found["speech_seconds"] - expected["speech_seconds"]) > 1e-5)
    spread = f"{probability.max():.1e} | {np.median(probability):.1e} | {np.quantile(probability, 0.99):.1e}"
    return f"{same:.2%} | {spread} | {embedding:.1e} | {other:.2%}"


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except UserError as error:
        sys.exit(f"parity: {error}")
