"""Figure 9: confusion matrices, and whether the paper's claims about them hold here."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ser_tf.report import figures
from ser_tf.report.document import Block, Figure, Panel, Paragraph, Section, Table
from ser_tf.report.scored import Scored
from ser_tf.statistics.scores import Estimate, PooledScores, points

ABOUT_POINTS = 5
"""Tolerance of "about 70 %"."""
HIGHEST, LOWEST = (
    f"{end} recall in every network, without overlap of its interval with the next" for end in ("highest", "lowest")
)
HOLDS, FAILS, OPEN, UNANSWERED = "holds", "does not hold", "not decided", "no data yet"

Answer = tuple[str, str]
"""One of these four words, and the numbers behind it."""
Pooled = dict[str, PooledScores]
"""By label of a network's line."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper about figure 9."""

    text: str
    rule: str
    """When it holds."""
    answer: Callable[[Pooled], Answer]


def confusions(scored: Scored) -> Section:
    """The matrix of every line, and the checklist."""
    panels = []
    for label in scored.informative:
        pooled = scored.summaries[label].scores.pooled
        counts, percent = np.array(pooled.confusion), np.array(pooled.confusion_percent)
        drawing = figures.confusion(counts, percent, scored.emotions, label)
        recalls = ", ".join(f"{name} {points(one.value or 0.0)}" for name, one in pooled.recall.items())
        panels.append(
            Panel(
                f"{scored.slug}-figure-9-{slug(label)}",
                f"Confusion matrix of {label}. Recall in percent: {recalls}. Most frequent error: "
                f"{_worst_error(counts, scored.emotions)}.",
                drawing,
            )
        )
    blocks: list[Block] = [
        Figure(
            "Figure 9: confusion matrices of all test utterances; a row is the true emotion. Bold numbers are percent "
            "of the row, those below are counts. The diagonal shows recall; dark cells beside it are confusions.",
            panels,
        )
    ]
    return Section("Confusions (figure 9)", [*blocks, *_checklist(scored)])


def _checklist(scored: Scored) -> Iterator[Block]:
    claims = CLAIMS.get(scored.evaluation.corpus, ())
    if not claims:
        return
    pooled = {line.label: scored.summaries[line.label].scores.pooled for line in scored.evaluation.networks}
    if not pooled:
        yield Paragraph("The checklist of the paper's claims about figure 9 needs a finished network.")
        return
    rows = []
    for claim in claims:
        verdict, numbers = claim.answer(pooled)
        rows.append([claim.text, verdict, numbers, claim.rule])
    note = " Not all folds are finished, so these answers may still change." if scored.partial else ""
    yield Table(
        f"The paper's claims about figure 9, checked with the networks here.{note}",
        ["the paper says", "here", "numbers, %", "holds if"],
        rows,
    )


def _recall(pooled: PooledScores, emotion: str) -> float:
    estimate = pooled.recall.get(emotion)
    return 100 * estimate.value if estimate is not None and estimate.value is not None else float("nan")


def _verdict(holds: bool) -> str:
    return HOLDS if holds else FAILS


def _extreme(emotion: str, *, highest: bool) -> Callable[[Pooled], Answer]:
    """Whether the emotion has the highest or lowest recall in every network.

    Not decided if its interval overlaps with that of its nearest rival.
    """

    def answer(pooled: Pooled) -> Answer:
        found, numbers = set(), []
        for label, scores in pooled.items():
            others = {name: _recall(scores, name) for name in scores.recall if name != emotion}
            rival = (max if highest else min)(others, key=lambda name: others[name])
            ours, its = _recall(scores, emotion), others[rival]
            overlap = _overlap(scores.recall[emotion], scores.recall[rival])
            found.add(OPEN if overlap else _verdict(ours > its if highest else ours < its))
            numbers.append(f"{label}: {emotion} {ours:.1f}, {rival} {its:.1f}")
        return (FAILS if FAILS in found else OPEN if OPEN in found else HOLDS), "; ".join(numbers)

    return answer


def _overlap(first: Estimate, second: Estimate) -> bool:
    """Whether the intervals overlap; without intervals: whether the values are equal."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return first.value == second.value
    return first.low <= second.high and second.low <= first.high


def _of_s5(emotions: Sequence[str], decide: Callable[[float], bool]) -> Callable[[Pooled], Answer]:
    """Whether `decide` accepts the recall, in percent, of each emotion in every line of S5."""

    def answer(pooled: Pooled) -> Answer:
        fifth = {label: scores for label, scores in pooled.items() if label.startswith("S5")}
        if not fifth:
            return UNANSWERED, "S5 has no finished fold"
        values = {(label, name): _recall(scores, name) for label, scores in fifth.items() for name in emotions}
        numbers = [f"{label}: " + ", ".join(f"{e} {values[label, e]:.1f}" for e in emotions) for label in fifth]
        return _verdict(all(map(decide, values.values()))), "; ".join(numbers)

    return answer


def _confused(scores: PooledScores, truth: str, named: str) -> float:
    """Percent of the utterances of one emotion that are named another."""
    order = list(scores.recall)
    return scores.confusion_percent[order.index(truth)][order.index(named)]


def _mutual(first: str, second: str) -> Callable[[Pooled], Answer]:
    """Whether each of the two is most often mistaken for the other in every line of S1 to S4."""

    def answer(pooled: Pooled) -> Answer:
        others = {label: scores for label, scores in pooled.items() if not label.startswith("S5")}
        if not others:
            return UNANSWERED, "none of S1 to S4 has a finished fold"
        found, numbers = [], []
        for label, scores in others.items():
            there, back = _confused(scores, first, second), _confused(scores, second, first)
            most = [
                max(_confused(scores, truth, name) for name in scores.recall if name != truth)
                for truth in (first, second)
            ]
            found.append(0 < there == most[0] and 0 < back == most[1])
            numbers.append(f"{label}: {first} as {second} {there:.1f}, back {back:.1f}")
        return _verdict(all(found)), "; ".join([*numbers, *_absent(others)])

    return answer


def _absent(labels: Iterable[str]) -> Iterator[str]:
    """Which of S1 to S4 are missing."""
    absent = [name for name in ("S1", "S2", "S3", "S4") if not any(label.startswith(name) for label in labels)]
    if absent:
        yield f"without {', '.join(absent)}"


def _eased(first: str, second: str) -> Callable[[Pooled], Answer]:
    """Whether S5 confuses the two less often than each of S1 to S4."""

    def answer(pooled: Pooled) -> Answer:
        rates = {
            label: (_confused(scores, first, second) + _confused(scores, second, first)) / 2
            for label, scores in pooled.items()
        }
        fifth = [rate for label, rate in rates.items() if label.startswith("S5")]
        others = [rate for label, rate in rates.items() if not label.startswith("S5")]
        numbers = "; ".join(f"{label} {rate:.1f}" for label, rate in rates.items())
        if not fifth or not others:
            return UNANSWERED, f"needs S5 and one of S1 to S4 ({numbers})"
        numbers = "; ".join([numbers, *_absent(rates)])
        return _verdict(max(fifth) < min(others)), f"mean of both directions: {numbers}"

    return answer


def _leads(emotions: Sequence[str]) -> Callable[[Pooled], Answer]:
    """Whether these emotions have the highest recalls in every line of S5."""

    def answer(pooled: Pooled) -> Answer:
        fifth = {label: scores for label, scores in pooled.items() if label.startswith("S5")}
        if not fifth:
            return UNANSWERED, "S5 has no finished fold"
        tops = {
            label: sorted(scores.recall, key=lambda name: -_recall(scores, name))[: len(emotions)]
            for label, scores in fifth.items()
        }
        numbers = [
            f"{label}: " + ", ".join(f"{e} {_recall(fifth[label], e):.1f}" for e in top) for label, top in tops.items()
        ]
        return _verdict(all(set(top) == set(emotions) for top in tops.values())), "; ".join(numbers)

    return answer


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "ravdess": (
        Claim("calm is recognised best", HIGHEST, _extreme("calm", highest=True)),
        Claim("happy is recognised worst", LOWEST, _extreme("happy", highest=False)),
        Claim(
            "S5 recognises happy in about 70 %",
            f"within {ABOUT_POINTS} points",
            _of_s5(["happy"], lambda value: abs(value - 70) <= ABOUT_POINTS),
        ),
        Claim(
            "S5 recognises angry, surprised and calm in more than 90 %",
            "all three above 90",
            _of_s5(["angry", "surprised", "calm"], lambda value: value > 90),
        ),
        Claim(
            "S1 to S4 confuse fear with surprise and vice versa",
            "in every network each is most often mistaken for the other",
            _mutual("fearful", "surprised"),
        ),
        Claim("S5 eases that", "less often than each of S1 to S4", _eased("fearful", "surprised")),
    ),
    "crema_d": (
        Claim("angry is recognised best", HIGHEST, _extreme("angry", highest=True)),
        Claim("fear is recognised worst", LOWEST, _extreme("fearful", highest=False)),
        Claim(
            "S5 recognises angry in 75.92 %",
            f"within {ABOUT_POINTS} points",
            _of_s5(["angry"], lambda value: abs(value - 75.92) <= ABOUT_POINTS),
        ),
        Claim(
            "S5 is good at neutral and angry",
            "they have its two highest recalls",
            _leads(["neutral", "angry"]),
        ),
        Claim(
            "S5 recognises fear and happy in less than 60 %",
            "both below 60",
            _of_s5(["fearful", "happy"], lambda value: value < 60),
        ),
    ),
}
"""Claims of the paper's section 5 about figure 9, by corpus."""


def _worst_error(counts: np.ndarray, emotions: Sequence[str]) -> str:
    wrong = counts - np.diag(counts.diagonal())
    row, column = divmod(int(wrong.argmax()), len(emotions))
    return f"{emotions[row]} named {emotions[column]}, {wrong[row, column]} times"


def slug(label: str) -> str:
    """A label as part of a file name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in label).split())
