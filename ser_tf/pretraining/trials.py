"""Trials of speaker verification: which recordings are compared, and the scores of their embeddings."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ser_tf.corpora.demographics import demographics_of
from ser_tf.corpora.known import ravdess
from ser_tf.documents import read_bounded
from ser_tf.errors import UserError
from ser_tf.pretraining.manifest import Shards, ShardUtterance

LARGEST_BYTES = 500_000_000
"""Of a list of trials; VoxCeleb1-H has 552,536 lines, 40 MB."""
ATTEMPTS = 20
"""Maximum number of draws for a new pair."""


class Trial(NamedTuple):
    """Two recordings, by their index among the utterances."""

    same: bool
    first: int
    second: int


@dataclass(frozen=True)
class Trials:
    """The pairs of recordings to compare, of speakers not trained on.

    Attributes:
        utterances: all utterances of the trials.
        trials: pairs of one speaker and pairs of two.
    """

    utterances: tuple[ShardUtterance, ...]
    trials: tuple[Trial, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers of the utterances, sorted."""
        return tuple(sorted({utterance.speaker for utterance in self.utterances}))

    @property
    def same(self) -> np.ndarray:
        """Bool [N], whether a trial is of one speaker."""
        return np.array([trial.same for trial in self.trials], bool)

    @property
    def hash(self) -> str:
        """Hash of the pairs: 16 hex digits."""
        lines = [
            f"{trial.same} {self.utterances[trial.first].sample_hash} {self.utterances[trial.second].sample_hash}"
            for trial in self.trials
        ]
        return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()

    def score(self, embeddings: np.ndarray) -> np.ndarray:
        """Cosine of each trial, float [N], from unit-norm embeddings [U, E] in the order of `utterances`."""
        first, second = (np.array([getattr(trial, side) for trial in self.trials]) for side in ("first", "second"))
        blocks = np.array_split(np.arange(len(first)), -(-len(first) // 1024))  # keeps the gathered arrays small
        return np.concatenate([np.sum(embeddings[first[b]] * embeddings[second[b]], axis=1) for b in blocks])


def hold_out(
    counts: Mapping[str, int], sex: Mapping[str, str], held_out: float, sides: int
) -> tuple[tuple[str, ...], ...]:
    """Choose speakers for verification, spread over corpora and sexes, then by hash: the same on every machine.

    Args:
        counts: speaker -> number of recordings; speakers with a single one are not chosen.
        sex: speaker -> "female" or "male", where known.
        held_out: number of speakers of two groups, or their share if below 1.
        sides: number of groups; each has half of `held_out`, and at least two speakers.

    Returns:
        The speakers of each group, sorted.

    Raises:
        UserError: there are too few speakers.
    """
    able = [speaker for speaker, count in counts.items() if count > 1]
    of_side = max(2, round(held_out * len(able) if held_out < 1 else held_out) // 2)
    chosen = sides * of_side
    if len(able) - chosen < 2:
        raise UserError(
            f"held_out: expected two speakers or more to train on besides {chosen} for verification. Received: "
            f"{len(able)} speakers with two recordings or more, {len(counts)} in all; give more speakers or lower "
            "--pretraining.held-out"
        )
    able.sort(key=lambda speaker: (speaker.partition(":")[0], sex.get(speaker, ""), _hash(speaker)))
    spread = [able[(2 * place + 1) * len(able) // (2 * chosen)] for place in range(chosen)]
    return tuple(tuple(sorted(spread[side::sides])) for side in range(sides))


def sexes_of(shards: Shards) -> dict[str, str]:
    """Speaker -> "female" or "male", for the speakers whose corpus states it."""
    stated = {speaker: sex for _, speaker, sex, _, _ in shards.utterances() if sex}
    actors = [speaker for speaker in shards.counts if speaker.startswith(f"{ravdess.NAME}:")]
    return demographics_of(actors).sex | stated


def draw_trials(utterances: Iterable[ShardUtterance], sex: Mapping[str, str], count: int) -> Trials:
    """Draw trials: equally many of one speaker and of two, equally many per speaker, each pair once.

    Trials that are too easy are avoided. Two speakers are of one corpus, unless no corpus has two: microphones reveal
    the corpus. Every second such pair is of one sex, where known: pitch reveals the sex. A speaker without new pairs
    gets fewer trials. Recordings with equal samples count once. The draw depends only on the recordings' names.

    Args:
        utterances: of at least two speakers who are not trained on.
        sex: speaker -> "female" or "male", where known.
        count: maximum number of trials.

    Raises:
        UserError: no speaker has two different recordings, or there is one speaker only.
    """
    of_speaker: dict[str, list[ShardUtterance]] = defaultdict(list)
    seen: set[int] = set()
    for utterance in sorted(utterances, key=lambda utterance: (utterance.speaker, utterance.name)):
        if utterance.sample_hash not in seen:
            seen.add(utterance.sample_hash)
            of_speaker[utterance.speaker].append(utterance)
    speakers = sorted(of_speaker)
    generator = np.random.default_rng(0)
    pairs: dict[tuple[ShardUtterance, ShardUtterance], bool] = {}

    def draw(same: bool, first: str, partners: Sequence[str]) -> bool:
        for _ in range(ATTEMPTS if partners else 0):
            second = partners[int(generator.integers(len(partners)))]
            one, other = (of_speaker[name][generator.integers(len(of_speaker[name]))] for name in (first, second))
            pair = (min(one, other), max(one, other))
            if one != other and pair not in pairs:
                pairs[pair] = same
                return True
        return False

    for place in range(count // 2):
        speaker = speakers[place % len(speakers)]
        draw(True, speaker, [speaker])
    same_speaker = len(pairs)
    within = len({speaker.partition(":")[0] for speaker in speakers}) < len(speakers)
    for place in range(same_speaker):
        speaker = speakers[place % len(speakers)]
        corpus = f"{speaker.partition(':')[0]}:" if within else ""
        others = [other for other in speakers if other != speaker and other.startswith(corpus)]
        is_same_sex = (place // len(speakers) + place) % 2 == 0
        fitting = [
            other for other in others if (sex.get(other, "?") == sex.get(speaker, "")) == is_same_sex and speaker in sex
        ]
        if not draw(False, speaker, fitting):
            draw(False, speaker, others)
    if not same_speaker or len(pairs) == same_speaker:
        raise UserError(
            f"trials: expected two speakers, one of them with two different recordings. Received: {len(seen)} "
            f"different recordings of {', '.join(speakers) or 'nobody'}; hold out more speakers"
        )
    drawn = [(same, one, other) for (one, other), same in pairs.items()]
    of_two = len(drawn) - same_speaker
    return _trials_of(drawn[: min(same_speaker, of_two)] + drawn[same_speaker:])


def read_trials(path: Path, shards: Shards) -> Trials:
    """Read a list in VoxCeleb1's format: lines `1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav`.

    Args:
        path: the list; 1 marks a pair of one speaker, 0 a pair of two.
        shards: the recordings, which the list gives by name or by path below their corpus, with any suffix.

    Raises:
        UserError: the file is missing or malformed, names a recording that is in no shard or in two corpora,
            contradicts the speakers' names, or lacks one of the two kinds of pairs.
    """
    try:
        lines = read_bounded(path, LARGEST_BYTES).splitlines()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: expected a readable list of trials; {error}") from error
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    for number, cells in rows:
        if len(cells) != 3 or cells[0] not in ("0", "1") or not all(PurePosixPath(cell).name for cell in cells[1:]):
            raise UserError(f"{path}: expected '1 PATH PATH' or '0 PATH PATH' in line {number}. Received: {cells}")
    wanted = {_stem(cell) for _, cells in rows for cell in cells[1:]}
    found: dict[str, dict[tuple[str, str], ShardUtterance]] = defaultdict(dict)
    for utterance in shards.utterances():
        for key in {utterance.name, _stem(utterance.path)} & wanted:
            found[key][utterance.speaker, utterance.name] = utterance
    pairs = []
    for number, (kind, *names) in rows:
        for name in names:
            if len(found[_stem(name)]) != 1:
                received = "several" if found[_stem(name)] else "none"
                raise UserError(
                    f"{path}: expected one recording {name} (line {number}) in {', '.join(map(str, shards.folders))}. "
                    f"Received: {received}; add its corpus to --corpus, or correct the list"
                )
        one, other = (next(iter(found[_stem(name)].values())) for name in names)
        if (one.speaker == other.speaker) != (kind == "1"):
            raise UserError(
                f"{path}: line {number} says {kind}, and the recordings are of {one.speaker} and {other.speaker}; "
                "correct the list"
            )
        pairs.append((kind == "1", one, other))
    if len({same for same, _, _ in pairs}) < 2:
        raise UserError(f"{path}: expected pairs of one speaker (1) and of two (0). Received: {len(pairs)} of one kind")
    return _trials_of(pairs)


def _trials_of(pairs: Sequence[tuple[bool, ShardUtterance, ShardUtterance]]) -> Trials:
    utterances = sorted({utterance for _, *pair in pairs for utterance in pair}, key=lambda each: each[:2])
    place = {utterance: number for number, utterance in enumerate(utterances)}
    return Trials(tuple(utterances), tuple(Trial(same, place[one], place[other]) for same, one, other in pairs))


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()


def _hash(speaker: str) -> str:
    return hashlib.blake2b(speaker.encode(), digest_size=8).hexdigest()
