"""The paper's five strategies (section 5) as a table."""

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from ser_tf.config import Config
from ser_tf.errors import UserError


@dataclass(frozen=True)
class Strategy:
    """One row of the paper's ablation.

    Attributes:
        pretrained: whether the paper starts from weights pre-trained on speaker identity.
        ghosts: whether there are ghost clusters; without them GhostVLAD is NetVLAD.
        loss: the training loss.
    """

    pretrained: bool
    ghosts: bool
    loss: Literal["softmax", "triplet", "emotion_triplet"]

    @property
    def metric(self) -> bool:
        """Whether it uses a metric loss and an SVM."""
        return self.loss != "softmax"


STRATEGIES: dict[str, Strategy] = {
    "S1": Strategy(pretrained=False, ghosts=False, loss="softmax"),
    "S2": Strategy(pretrained=True, ghosts=False, loss="softmax"),
    "S3": Strategy(pretrained=True, ghosts=True, loss="softmax"),
    "S4": Strategy(pretrained=True, ghosts=True, loss="triplet"),
    "S5": Strategy(pretrained=True, ghosts=True, loss="emotion_triplet"),
}


def configure(name: str, config: Config, *, weights: bool, compared: Collection[str] = ()) -> tuple[Strategy, Config]:
    """The strategy of that name, and its configuration.

    Args:
        name: S1 to S5.
        config: the preset with the user's changes.
        weights: whether the network starts from given weights.
        compared: parameters whose values are being compared. With network.ghost_clusters among them, every strategy
            uses the number in the configuration, even 0.

    Raises:
        UserError: the strategy does not exist, contradicts the weights, or cannot be trained with this configuration.
    """
    if name not in STRATEGIES:
        raise UserError(f"strategy: expected one of {', '.join(STRATEGIES)}. Received: {name}")
    strategy = STRATEGIES[name]
    if name == "S1" and weights:
        raise UserError("strategy S1 trains from random weights; leave --weights out, or choose S2")
    if name == "S2" and not weights:
        raise UserError("strategy S2 without pre-trained weights is S1; give --weights, or choose S1")
    if strategy.metric and config.training.batches != "balanced":
        raise UserError(
            f"strategy {name} mines in balanced batches; expected training.batches balanced. "
            f"Received: {config.training.batches}"
        )
    if "network.ghost_clusters" in compared:
        return strategy, config
    if not strategy.ghosts:
        config = dataclasses.replace(config, network=dataclasses.replace(config.network, ghost_clusters=0))
    elif config.network.ghost_clusters == 0:
        raise UserError(f"strategy {name} has ghost clusters; expected network.ghost_clusters above 0. Received: 0")
    return strategy, config


def start_in_words(provenance: dict[str, Any] | None) -> str:
    """All starts of a network, such as "random weights" or "S3 from random weights".

    Args:
        provenance: of the weights it started from; None without weights.
    """
    if provenance is None:
        return "random weights"
    afresh = f" with {' and '.join(provenance['afresh'])} afresh" if "afresh" in provenance else ""
    if "strategy" not in provenance:
        return f"pre-trained weights{afresh}"
    return f"{provenance['strategy']} from {start_in_words(provenance.get('started_from'))}{afresh}"
