"""Commands that hand a run on: export it as a SavedModel."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ser_tf.cli.options import import_tensorflow


@dataclass(frozen=True)
class Export:
    """Write a finished run as the next version of a SavedModel: recording in, emotion out, for TensorFlow Serving."""

    run_folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(name="run")]
    """Folder of a finished run."""
    out: tyro.conf.Positional[Path]
    """Folder of the versions; OUT/1 is the first."""

    def run(self) -> None:
        """Write it, and say where it is and what it holds."""
        import_tensorflow()
        from ser_tf.experiments.model_card import model_card
        from ser_tf.serving.export import MODEL_CARD, export
        from ser_tf.training.run_folder import RunFolder

        version = export(self.run_folder, self.out, model_card(RunFolder(self.run_folder)))
        size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
        print(f"{version}: {size / 1e6:.1f} MB; what it is and is not for: {version / 'assets' / MODEL_CARD}")
