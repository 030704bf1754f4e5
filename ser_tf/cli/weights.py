"""The command that converts published weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from ser_tf.cli.options import import_tensorflow
from ser_tf.config import preset


@dataclass(frozen=True)
class ImportVggvox:
    """Convert the published VoxCeleb2 weights of WeidiXie/VGG-Speaker-Recognition into a start for finetune."""

    weights: tyro.conf.Positional[Path]
    """Their weights.h5: resnet34s with GhostVLAD, 8 clusters and 2 ghosts."""
    out: tyro.conf.Positional[Path]
    """File to write; it must end in .weights.h5."""
    preset: Literal["vggvox", "paper"] = "vggvox"
    """vggvox takes the whole network; paper takes the shared layers, and starts its gates at 0.5."""

    def run(self) -> None:
        """Convert the weights, and print what was taken."""
        import_tensorflow()
        from ser_tf.pretraining.import_vggvox import LICENCE, SOURCE, import_vggvox
        from ser_tf.runs.weights import table_of_fates

        print(table_of_fates(import_vggvox(self.weights, self.out, preset(self.preset))))
        print(f"{self.out}: for finetune --preset {self.preset} --weights; {SOURCE}, {LICENCE}")
