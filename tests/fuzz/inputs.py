"""Valid inputs of each kind, and the functions that read damaged ones."""

import random
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutations import NASTY, damaged, reworded

SHARES = {
    "configurations": 0.3,
    "tables": 0.2,
    "folds": 0.15,
    "run folders": 0.1,
    "weights": 0.02,
    "recordings": 0.08,
    "shards": 0.05,
    "arguments": 0.1,
}
"""Shares of all inputs; slow readers get fewer."""
RATE_HZ = 16_000
EMOTIONS = ("neutral", "happy", "sad")
COMMANDS = (
    "audit CORPUS",
    "finetune --corpus CORPUS --strategy S1 --fold 1 --preset tiny --training.seed 3 --network.width 0.25",
    "evaluate --corpus CORPUS --strategies S1 S3 --seeds 0 1 --fold 1 2 --loss.alpha 0.1",
    "pretrain --corpus CORPUS --task emotions --pretraining.held-out 0.1 --training.steps 10",
    "sweep --corpus CORPUS --over loss.alpha=0.1,0.2 network.clusters=4 --strategy S5",
    "predict RUN clip.wav --format csv --risk 0.1",
    "describe --preset compact --seconds 2 --network.clusters 4 --spectrogram.fft-samples 512",
    "noise RUN --corpus CORPUS",
    "report RUN --out OUT",
    "yardsticks --corpus CORPUS --methods mfcc_svm",
    "export RUN OUT --format onnx",
)


@dataclass(frozen=True)
class Kind:
    """One kind of input.

    Attributes:
        originals: file name -> valid content.
        damage: turns a valid input into a bad one.
        read: reads the damaged file at a path, whose folder holds all other originals.
        beside: further files in that folder, never damaged.
    """

    originals: dict[str, bytes]
    damage: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], Any]
    beside: dict[str, bytes] = field(default_factory=dict)


def kinds(scratch: Path) -> dict[str, Callable[[], Kind]]:
    """Each kind by name; constructed when called, because some train or encode."""
    return {
        "configurations": lambda: _configurations(),
        "tables": lambda: _tables(scratch),
        "folds": lambda: _folds(scratch),
        "run folders": lambda: _run_folders(scratch),
        "weights": lambda: _weights(scratch),
        "recordings": lambda: _recordings(),
        "shards": lambda: _shards(scratch),
        "arguments": lambda: _arguments(),
    }


def _sound(pitch_hz: float = 220) -> np.ndarray:
    times = np.arange(9600) / RATE_HZ
    return 0.3 * np.sin(2 * np.pi * pitch_hz * times) * np.sin(2 * np.pi * 2 * times)


def _configurations() -> Kind:
    from ser_tf.config import PRESETS, Config

    originals = {}
    for name, config in PRESETS.items():
        path = Path(f"/tmp/ser-tf-fuzz-{name}.yaml")
        config.save(path)
        originals[f"{name}.yaml"] = path.read_bytes()
        path.unlink()
    return Kind(originals, reworded, Config.load)


def write_table(folder: Path, pitch_hz: float = 220) -> Path:
    """A table of four speakers and three emotions, each recording with a different level."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rows = ["path,speaker,emotion"]
    for speaker in ("anna", "bea", "carl", "dora"):
        for emotion in EMOTIONS:
            name = f"{speaker}-{emotion}.wav"
            soundfile.write(folder / name, _sound(pitch_hz) * (1 + 0.1 * len(rows) / 12), RATE_HZ)
            rows.append(f"{name},{speaker},{emotion}")
    table = folder / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def _tables(scratch: Path) -> Kind:
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus

    table = write_table(scratch / "tables")
    recordings = {path.name: path.read_bytes() for path in table.parent.glob("*.wav")}
    plain = table.read_bytes()
    quoted = plain.replace(b"anna,", b'"anna",')
    originals = {"table.csv": plain, "semicolons.csv": plain.replace(b",", b";"), "quoted.csv": quoted}

    def read(path: Path) -> None:
        load_scheme("complete", open_corpus(path))

    return Kind(originals, reworded, read, beside=recordings)


def _folds(scratch: Path) -> Kind:
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus

    corpus = open_corpus(write_table(scratch / "folds"))
    ours = b"""table:
  mine:
    notes: [Made by hand.]
    folds:
      1: {test: [anna], validation: [bea]}
      2: {test: [bea], validation: [carl]}
      3: {test: [carl, dora], validation: [anna]}
  again:
    same_as: mine
"""

    def read(path: Path) -> None:
        for name in ("mine", "again"):
            load_scheme(name, corpus, path)

    return Kind({"folds.yaml": ours}, reworded, read)


def _tiny_run(scratch: Path) -> Any:
    """A finished run of a very small network, trained once."""
    from ser_tf.config import PRESETS
    from ser_tf.corpora.folds import load_scheme
    from ser_tf.corpora.opening import open_corpus
    from ser_tf.network import se_resnet
    from ser_tf.runs.folder import RunFolder
    from ser_tf.training.finetune import FoldTask, finetune

    se_resnet.STAGES = (se_resnet.STAGES[0]._replace(blocks=1),)
    run = RunFolder(scratch / "run")
    if not run.finished:
        corpus = open_corpus(write_table(scratch / "corpus"))
        tiny = PRESETS["tiny"]
        config = replace(
            tiny,
            network=replace(tiny.network, descriptor_size=8, clusters=2, head_units=4),
            training=replace(tiny.training, crop_seconds=0.5, batch_size=6, maximum_epochs=1),
        )
        task = FoldTask.make(corpus, load_scheme("complete", corpus), 1, "S5", config, None)
        finetune(task, run, report=lambda line: None)
    return run


def _run_folders(scratch: Path) -> Kind:
    from ser_tf.classifier import Classifier
    from ser_tf.report.sources import find_sources
    from ser_tf.runs.folder import RunFolder
    from ser_tf.statistics.table import read_predictions

    run = _tiny_run(scratch)
    files = ("run.json", "metrics.json", "config.yaml", "classifier.json", "svm.npz", "predictions.csv", "log.csv")
    originals = {name: (run.path / name).read_bytes() for name in files}

    def read(path: Path) -> None:
        from ser_tf.errors import UserError

        refusals = []
        for step in (
            lambda: find_sources([path.parent]),
            lambda: read_predictions([path.parent]),
            lambda: Classifier.load(path.parent).probabilities(np.ones((1, 16), "float32")),
            lambda: RunFolder(path.parent).read_made_with(),
        ):
            try:
                step()
            except UserError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    def damage(content: bytes, generator: random.Random) -> bytes:
        return (damaged if content[:2] == b"PK" else reworded)(content, generator)

    return Kind(originals, damage, read)


def _weights(scratch: Path) -> Kind:
    from ser_tf.config import Config
    from ser_tf.network.se_resnet import embedding_network
    from ser_tf.runs.weights import load_weights, read_provenance, read_recordings

    run = _tiny_run(scratch)
    network = embedding_network(Config.load(run.config).network)

    def read(path: Path) -> None:
        read_provenance(path)
        read_recordings(path)
        load_weights(network, path)

    return Kind({"embedding.weights.h5": run.weights.read_bytes()}, damaged, read)


def _recordings() -> Kind:
    from ser_tf.audio.waveform import read_waveform
    from tests.sounds import encoded, muxed

    sound = _sound()
    forms = {
        "pcm.wav": ("WAV", "PCM_16"),
        "float.wav": ("WAV", "FLOAT"),
        "gsm.wav": ("WAV", "GSM610"),
        "adpcm.wav": ("WAV", "IMA_ADPCM"),
        "clip.flac": ("FLAC", "PCM_16"),
        "clip.ogg": ("OGG", "VORBIS"),
        "clip.opus": ("OGG", "OPUS"),
        "clip.mp3": ("MP3", "MPEG_LAYER_III"),
        "clip.aiff": ("AIFF", "PCM_16"),
        "clip.au": ("AU", "PCM_16"),
        "clip.caf": ("CAF", "PCM_16"),
        "clip.w64": ("W64", "PCM_16"),
    }
    originals = {name: encoded(sound, RATE_HZ, *form) for name, form in forms.items()}
    originals["clip.m4a"] = muxed(sound, RATE_HZ, "ipod", "aac")
    originals["clip.webm"] = muxed(sound, 48_000, "webm", "libopus")
    return Kind(originals, damaged, read_waveform)


def _shards(scratch: Path) -> Kind:
    from ser_tf.config import Config
    from ser_tf.pretraining.manifest import Shards
    from ser_tf.pretraining.prepare import prepare
    from ser_tf.pretraining.shard_reader import training_crops

    corpus = write_table(scratch / "voices")
    out = scratch / "shards"
    config = Config()
    config = replace(config, training=replace(config.training, batch_size=2, crop_seconds=0.5))
    if not out.exists():
        prepare(corpus, out, config, workers=1, report=lambda line: None)
    originals = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file() and path.name != "lock"}

    def read(path: Path) -> None:
        training_crops(Shards.open([path.parent], config), config)

    def damage(content: bytes, generator: random.Random) -> bytes:
        return (reworded if content[:1] in (b"{", b"[") else damaged)(content, generator)

    return Kind(originals, damage, read)


def _arguments() -> Kind:
    from ser_tf.cli import door

    originals = {f"{number}.txt": "\n".join(command.split()).encode() for number, command in enumerate(COMMANDS)}

    def damage(content: bytes, generator: random.Random) -> bytes:
        words = shlex.split(content.decode())
        for _ in range(generator.randint(1, 3)):
            place = generator.randrange(len(words))
            words[place] = generator.choice((*NASTY, "--help", "--preset", "S9", words[-1], words[place] * 2))
        return "\n".join(word.replace("\n", " ") for word in words).encode(errors="surrogatepass")

    def read(path: Path) -> None:
        from ser_tf.errors import UserError

        words = path.read_bytes().decode(errors="surrogatepass").split("\n")
        before = sys.stdout, sys.stderr
        with Path("/dev/null").open("w", encoding="utf-8", errors="backslashreplace") as nowhere:
            sys.stdout = sys.stderr = nowhere
            try:
                door._parse(words)
            except SystemExit as end:
                raise UserError(f"exit {end.code}") from end
            finally:
                sys.stdout, sys.stderr = before

    return Kind(originals, damage, read)
