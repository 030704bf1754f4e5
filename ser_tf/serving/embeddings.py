"""The embedding space of a finished run, as in figures 6 and 7 of the paper, and measures of it.

A t-SNE picture proves nothing; the measures are computed on the full embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from ser_tf.corpora.corpus import Utterance
from ser_tf.serving.loading import load

NEIGHBOURS = 5
PERPLEXITY = 30
GENERATOR_SEED = 0


@dataclass(frozen=True)
class Space:
    """Utterances in the embedding space of one network."""

    embeddings: np.ndarray
    """float32 [N, K*D], unit norm."""
    ghost_shares: list[np.ndarray]
    """Per utterance float32 [M], the share of each descriptor assigned to ghost clusters."""
    emotions: np.ndarray
    """str [N]."""
    speakers: np.ndarray
    """str [N]."""

    def select(self, chosen: np.ndarray) -> "Space":
        """The space of the chosen utterances; `chosen` is bool [N]."""
        shares = [share for share, keep in zip(self.ghost_shares, chosen, strict=True) if keep]
        return Space(self.embeddings[chosen], shares, self.emotions[chosen], self.speakers[chosen])

    @property
    def silhouette(self) -> float:
        """Mean silhouette of the emotions, -1 to 1; NaN if all utterances, or no two, have the same emotion."""
        if not 1 < len(set(self.emotions)) < len(self.emotions):
            return float("nan")
        return float(silhouette_score(self.embeddings, self.emotions))

    @property
    def neighbour_purity(self) -> float:
        """Share of same-emotion utterances among the five nearest of other speakers; NaN for one speaker."""
        if len(set(self.speakers)) == 1:
            return float("nan")
        distances = 2 - 2 * self.embeddings @ self.embeddings.T
        distances[self.speakers[:, None] == self.speakers] = np.inf
        nearest = distances.argsort(axis=1)[:, :NEIGHBOURS]
        others = np.isfinite(np.take_along_axis(distances, nearest, axis=1))
        same = self.emotions[nearest] == self.emotions[:, None]
        return float((same & others).sum() / others.sum())

    @property
    def chance_purity(self) -> float:
        """Expected `neighbour_purity` of random utterances of other speakers; NaN for one speaker."""
        if len(set(self.speakers)) == 1:
            return float("nan")
        others = self.speakers[:, None] != self.speakers
        same = self.emotions[:, None] == self.emotions
        return float(((same & others).sum(axis=1) / others.sum(axis=1)).mean())

    def placed(self) -> np.ndarray:
        """The utterances in a plane, by t-SNE (van der Maaten and Hinton 2008), float32 [N, 2]."""
        perplexity = min(PERPLEXITY, (len(self.embeddings) - 1) / 3)
        return TSNE(perplexity=perplexity, random_state=GENERATOR_SEED, init="pca").fit_transform(self.embeddings)


def embed(run: Path, utterances: Sequence[Utterance]) -> Space:
    """Embed utterances with the network of a finished run.

    Raises:
        UserError: the run is not finished or damaged, or a recording cannot be read.
    """
    recogniser = load(run)
    predictions = [recogniser(utterance.path) for utterance in utterances]
    return Space(
        embeddings=np.stack([prediction.embedding for prediction in predictions]),
        ghost_shares=[prediction.ghost_share for prediction in predictions],
        emotions=np.array([utterance.emotion for utterance in utterances]),
        speakers=np.array([utterance.speaker for utterance in utterances]),
    )
