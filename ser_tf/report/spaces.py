"""Figures 6 and 7, and ghost share over time; these need weights and recordings."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.errors import UserError
from ser_tf.report import figures
from ser_tf.report.document import Block, Bullets, Figure, Panel, Paragraph, Section, Table
from ser_tf.report.evaluations import ReportedRun
from ser_tf.report.scored import Scored
from ser_tf.report.words import speakers_in_words
from ser_tf.strategies import STRATEGIES

if TYPE_CHECKING:
    from ser_tf.serving.embeddings import Space

LOSSES = {"softmax": "softmax", "triplet": "triplet", "emotion_triplet": "emotion triplet"}
FIGURE_NUMBER = {"crema_d": "Figure 6", "ravdess": "Figure 7"}
TRAINING_SPEAKERS = 3
"""Number of training speakers shown; more would hide each other."""
SECONDS_PER_STRIDE = 0.16
"""16 frames of 10 ms; a descriptor spans this times the strides of the first convolution and the last pool."""
TEST, TRAINING = "test speakers", "training speakers"


def spaces(scored: Scored, corpus: Corpus | None, missing: list[str]) -> Section | None:
    """The embedding spaces of one fold; None without weights or recordings.

    Args:
        scored: the evaluation.
        corpus: its recordings.
        missing: receives a sentence about each figure that cannot be shown.
    """
    place = f"{scored.title}: figures 6 and 7, and ghost share over time"
    if corpus is None or corpus.name != scored.evaluation.corpus:
        missing.append(f"{place}: need the recordings; add `--corpus` with the folder of {scored.corpus}.")
        return None
    fold, runs = _runs_of_one_fold(scored)
    if not runs:
        missing.append(
            f"{place}: need the weights (`embedding.weights.h5`) of a finished fold, which are not in version control; "
            "use the run folder on the machine that trained it, or train it again with `ser-tf evaluate`."
        )
        return None
    absent = [LOSSES[loss] for loss in LOSSES if loss not in {STRATEGIES[run.strategy].loss for run in runs.values()}]
    if absent:
        missing.append(f"{place}: no finished fold {fold} with weights for {' and '.join(absent)} beside the others.")
    try:
        return _section(scored, corpus, fold, runs)
    except UserError as error:
        missing.append(f"{place}: {error}.")
        return None


def _runs_of_one_fold(scored: Scored) -> tuple[int, dict[str, ReportedRun]]:
    """The fold with runs of the most losses, and a run with weights for each; S3 is preferred to S1 and S2."""
    lines = sorted(scored.evaluation.networks, key=lambda line: (line.strategy != "S3", line.label))
    found: dict[int, dict[str, ReportedRun]] = {}
    for line in lines:
        for run in line.finished:
            if run.folder.weights.is_file():
                found.setdefault(run.fold, {}).setdefault(LOSSES[_loss(run)], run)
    if not found:
        return 0, {}
    best = max(sorted(found), key=lambda fold: len(found[fold]))
    order = list(LOSSES.values())
    return best, dict(sorted(found[best].items(), key=lambda item: order.index(item[0])))


def _loss(run: ReportedRun) -> str:
    return STRATEGIES[run.strategy].loss


def _section(scored: Scored, corpus: Corpus, fold: int, runs: Mapping[str, ReportedRun]) -> Section:
    from ser_tf.serving.embeddings import NEIGHBOURS, embed  # imports TensorFlow

    any_run = next(iter(runs.values()))
    sides = {
        TEST: any_run.identity["test_speakers"],
        TRAINING: any_run.identity["train_speakers"][:TRAINING_SPEAKERS],
    }
    emotions = any_run.identity.get("polarities", corpus.emotions)  # --emotions may have left some out
    utterances = {
        side: [item for item in corpus.utterances if item.speaker in speakers and item.emotion in emotions]
        for side, speakers in sides.items()
    }
    for side, speakers in sides.items():
        if not utterances[side]:
            raise UserError(f"{corpus.root}: expected recordings of {', '.join(speakers)}")
    together = [item for of_side in utterances.values() for item in of_side]
    whole = {name: embed(run.folder.path, together) for name, run in runs.items()}
    found = {
        (side, name): whole[name].select(np.isin(whole[name].speakers, sides[side]))
        for side, name in product(sides, runs)
    }
    looks = figures.looks_of(corpus.emotions)
    number = FIGURE_NUMBER.get(scored.evaluation.corpus, "As figures 6 and 7")
    who = {side: speakers_in_words(speakers) for side, speakers in sides.items()}
    panels = [
        Panel(
            f"{scored.slug}-space-{side.split()[0]}-{name.replace(' ', '-')}",
            f"t-SNE of {len(space.emotions)} utterances of {side} {who[side]} under {name}: silhouette "
            f"{space.silhouette:.3f}, neighbour purity {space.neighbour_purity:.3f}.",
            figures.space(space.placed(), space.emotions, looks, f"{name}, {side}"),
        )
        for (side, name), space in found.items()
    ]
    rows = [
        [
            side,
            f"{name} ({runs[name].strategy})",
            *map(_number, (space.silhouette, space.neighbour_purity, space.chance_purity)),
        ]
        for (side, name), space in found.items()
    ]
    blocks: list[Block] = [
        Figure(
            f"{number}: t-SNE of the same utterances under each loss, fold {fold}; first test speakers {who[TEST]}, "
            f"then training speakers {who[TRAINING]}. Look for clusters of one colour among the test speakers; those "
            "of training speakers may be memorised. Distances between clusters mean nothing.",
            panels,
            columns=len(runs),
        ),
        Table(
            "Computed on the full embeddings, not on the picture. Silhouette: -1 to 1; 0 if emotions overlap. Purity: "
            f"share of the {NEIGHBOURS} nearest utterances of other speakers that have the same emotion.",
            ["side", "loss", "silhouette", "neighbour purity", "purity by chance"],
            rows,
        ),
    ]
    shares = list(_ghost_shares(scored, fold, runs, found, utterances[TEST], corpus))
    return Section("Embeddings (figures 6 and 7)", blocks, [Section("Ghost share over time", shares)] if shares else [])


def _ghost_shares(
    scored: Scored,
    fold: int,
    runs: Mapping[str, ReportedRun],
    found: "Mapping[tuple[str, str], Space]",
    utterances: list[Utterance],
    corpus: Corpus,
) -> Iterator[Block]:
    """A curve per emotion, from the last network with ghosts."""
    with_ghosts = [name for name, run in runs.items() if run.config.network.ghost_clusters]
    if not with_ghosts:
        return
    name = with_ghosts[-1]
    shares = found[TEST, name].ghost_shares
    network = runs[name].config.network
    step_seconds = SECONDS_PER_STRIDE * network.stem_stride * network.final_pool_time_stride
    examples = {item.emotion: index for index, item in reversed(list(enumerate(utterances)))}
    lines: dict[str, tuple[list[float], list[float]]] = {}
    for emotion in (emotion for emotion in corpus.emotions if emotion in examples):
        share = shares[examples[emotion]]
        lines[emotion] = (step_seconds * np.arange(len(share))).tolist(), (100 * share).tolist()
    files = [f"{emotion}: `{utterances[examples[emotion]].name}`" for emotion in lines]
    ranges = "; ".join(f"{emotion} {min(share):.0f} to {max(share):.0f}" for emotion, (_, share) in lines.items())
    yield Figure(
        f"Share of each descriptor that the ghost clusters of {runs[name].strategy} take, fold {fold}, for the first "
        "test utterance of each emotion, over seconds of speech after silence removal. The curves are not local in "
        "time: a descriptor covers about 2 s of signal, and squeeze-and-excitation the whole utterance.",
        [
            Panel(
                f"{scored.slug}-ghost-share",
                f"Ghost share in percent over time: {ranges}.",
                figures.curves(lines, figures.looks_of(corpus.emotions), "seconds of speech", "ghost share, %"),
            )
        ],
    )
    mean = float(np.mean([share.mean() for share in shares]))
    yield Paragraph(f"Mean over all {len(shares)} test utterances of the fold: {100 * mean:.1f} %.")
    yield Bullets(files)


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
