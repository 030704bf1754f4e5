"""The command that writes a corpus of speakers as shards."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ser_tf.cli.options import Engine, import_tensorflow
from ser_tf.config import AudioConfig, Config, VadConfig
from ser_tf.errors import UserError


@dataclass(frozen=True)
class Prepare:
    """Decode a corpus of speakers, remove its silence, and write it in shards. An interrupted command continues."""

    corpus: Path
    """Folder of speakers (CORPUS/SPEAKER/...), of LibriSpeech, VoxCeleb or an emotion corpus, or a table."""
    out: Path
    """Folder of the shards."""
    workers: int | None = None
    """Number of shards written at the same time; by default one per core."""
    engine: Engine = "local"
    """ray: a Ray cluster whose nodes share the file system of both folders; needs the extra `[ray]`."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    vad: VadConfig = field(default_factory=VadConfig)

    def run(self) -> None:
        """Write missing shards, and print their content and the number of failed recordings."""
        from ser_tf.pretraining.prepare import failures, prepare

        prepared = prepare(
            self.corpus,
            self.out,
            Config(audio=self.audio, vad=self.vad),
            engine=self.engine,
            workers=self.workers,
            prologue=import_tensorflow,
            report=partial(print, flush=True),
        )
        print(prepared.sentence)
        if prepared.failed:
            raise UserError(failures(prepared))
