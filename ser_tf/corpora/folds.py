"""Speakers on the training, validation and test side of each fold: schemes from `folds.yaml` or the user's own file."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.documents import BaseLoader, read_yaml
from ser_tf.errors import UserError

SIDES = ("train", "validation", "test")
SPEAKER_INDEPENDENT = "speaker-independent"
"""The protocol of every fold here."""
RANDOM_SPLIT = "random split, speaker-dependent: not comparable"
"""The protocol of a split that trains on test speakers; the name warns wherever it appears."""
CROSS_CORPUS = "cross-corpus"
"""The protocol of training on one corpus and testing on another."""

DEALT_FOLDS = 10
"""Folds of scheme `complete` for a corpus that the file lacks; fewer if it has fewer speakers, or if a side would lack
an emotion."""
_LONGEST_NUMBER = 18
"""Digits; Python refuses to read numbers of thousands of digits."""


@dataclass(frozen=True)
class Fold:
    """Speaker names on each side, sorted."""

    number: int
    """Counted from 1."""
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class Scheme:
    """Folds of a corpus, with only the speakers in its folder."""

    name: str
    corpus: str
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]
    speakers: tuple[str, ...]
    """All speakers in the folder, including those in no fold."""
    missing_speakers: tuple[str, ...]
    """Speakers of the folds who are not in the folder."""

    @property
    def hash(self) -> str:
        """Sixteen hex digits that depend only on the speakers on each side of each fold."""
        sides = [[fold.train, fold.validation, fold.test] for fold in self.folds]
        return hashlib.sha256(json.dumps(sides, separators=(",", ":")).encode()).hexdigest()[:16]

    @property
    def never_tested(self) -> tuple[str, ...]:
        """Speakers in the folder who are in no test set."""
        return tuple(speaker for speaker in self.speakers if self._tests(speaker) == 0)

    @property
    def tested_twice(self) -> tuple[str, ...]:
        """Speakers who are in two test sets or more."""
        return tuple(speaker for speaker in self.speakers if self._tests(speaker) > 1)

    def fold(self, number: int) -> Fold:
        """The fold of that number, counted from 1.

        Raises:
            UserError: the scheme has no such fold.
        """
        if not 1 <= number <= len(self.folds):
            raise UserError(f"fold: expected 1 to {len(self.folds)} in scheme {self.name!r}. Received: {number}")
        return self.folds[number - 1]

    def _tests(self, speaker: str) -> int:
        return sum(speaker in fold.test for fold in self.folds)


def load_scheme(name: str, corpus: Corpus, path: Path | None = None) -> Scheme:
    """The folds of a scheme.

    Joined corpora have as many folds as the scheme has for the corpus with the fewest, K. Fold i tests the folds i,
    i + K, i + 2K, ... of each corpus. It validates on their validation speakers who are not tested, and trains on their
    other speakers. A corpus with fewer than three speakers cannot be on all sides: it is always trained on, with a
    warning.

    Args:
        name: `published`, `corrected`, `complete`, `emobox`, or a scheme of the user's own file. A corpus that
            `folds.yaml` lacks has only `complete`, dealt from its speakers.
        corpus: its name selects the schemes, its speakers restrict them.
        path: a fold file of the user's own; the head of `folds.yaml` explains the form.

    Returns:
        The scheme, restricted to the speakers in the folder; `missing_speakers` lists the others.

    Raises:
        UserError: no such scheme, a malformed file, an unknown speaker, a speaker on two sides of a fold, or a side
            without speakers.
    """
    if corpus.parts:
        return _joined(name, corpus, path)
    where = str(path) if path else "folds.yaml"
    corpora = _read(path)
    if path is None and corpus.name not in corpora:
        corpora = {corpus.name: {"complete": _dealt(corpus)}}
    if corpus.name not in corpora:
        raise UserError(f"{where}: expected schemes for corpus {corpus.name}. Received: {', '.join(corpora)}")
    schemes = corpora[corpus.name]
    if not isinstance(schemes, dict):
        raise UserError(f"{where}: {corpus.name}: expected a mapping of schemes. Received: {schemes!r}")
    if name not in schemes:
        there = ", ".join(schemes) or "none"
        raise UserError(f"{where}: no scheme {name!r} for corpus {corpus.name}; choose one of: {there}")
    where = f"{where}: {corpus.name}: {name}"
    notes, sides = _parse(name, schemes, where)
    folds = _resolve(sides, known_speakers(corpus), where)
    present, missing = set(corpus.speakers), set[str]()
    for fold in folds:
        _check(fold, where)
        missing |= {speaker for side in SIDES for speaker in getattr(fold, side)} - present
    return Scheme(
        name=name,
        corpus=corpus.name,
        folds=tuple(_restricted(fold, present, corpus, where) for fold in folds),
        notes=notes,
        speakers=tuple(corpus.speakers),
        missing_speakers=tuple(sorted(missing)),
    )


def known_speakers(corpus: Corpus) -> tuple[str, ...]:
    """Sorted speakers of the complete corpus; if its content is not known, those in the folder."""
    return published_speakers(corpus.name) or corpus.speakers


def published_speakers(corpus: str) -> tuple[str, ...]:
    """Sorted speakers of a known corpus; empty if its content is not fixed."""
    kinds = [kind for kind in KNOWN_CORPORA if kind.name == corpus]
    parsed = (kind.parse(name) for kind in kinds for name in kind.published_names())
    return tuple(sorted({of[0] for of in parsed if of}))


def deal_folds(speakers: Sequence[str], folds: int) -> list[list[str]]:
    """Test sets dealt like cards: the speakers, in the given order, go one by one to folds 1, 2, ..., 1, 2, ..."""
    return [list(speakers[first::folds]) for first in range(folds)]


def _joined(name: str, corpus: Corpus, path: Path | None) -> Scheme:
    always = [part for part in corpus.parts if path is None and len(known_speakers(part)) < len(SIDES)]
    reasons = [f"{part.name}: always trained on, never tested: it has {len(part.speakers)} speakers" for part in always]
    schemes = [load_scheme(name, part, path) for part in corpus.parts if part not in always]
    if not schemes:
        raise UserError(
            f"{corpus.root}: expected a corpus with at least {len(SIDES)} speakers, to train, validate and test on "
            f"different ones. Received: {corpus.name}; add one"
        )
    count = min(len(scheme.folds) for scheme in schemes)
    untested = {speaker for part in always for speaker in part.speakers}
    folds = []
    for number in range(1, count + 1):
        own = [fold for scheme in schemes for fold in scheme.folds[number - 1 :: count]]
        test = {speaker for fold in own for speaker in fold.test}
        validation = {speaker for fold in own for speaker in fold.validation} - test
        train = {speaker for fold in own for speaker in fold.train} - validation - test | untested
        folds.append(Fold(number, tuple(sorted(train)), tuple(sorted(validation)), tuple(sorted(test))))
    notes = [f"{scheme.corpus}: {note}" for scheme in schemes for note in scheme.notes]
    merged = [f"{scheme.corpus} ({len(scheme.folds)})" for scheme in schemes if len(scheme.folds) > count]
    if merged:
        notes.append(f"Fold i tests the folds i, i + {count}, ... of {' and '.join(merged)}.")
    for reason in reasons:
        warnings.warn(reason, stacklevel=1)
    return Scheme(
        name=name,
        corpus=corpus.name,
        folds=tuple(folds),
        notes=(*notes, *reasons),
        speakers=corpus.speakers,
        missing_speakers=tuple(speaker for scheme in schemes for speaker in scheme.missing_speakers),
    )


def _dealt(corpus: Corpus) -> dict[str, Any]:
    speakers = corpus.speakers
    if len(speakers) < len(SIDES):
        raise UserError(
            f"{corpus.root}: expected at least {len(SIDES)} speakers, to train, validate and test on different ones. "
            f"Received: {len(speakers)} ({', '.join(speakers)}); add recordings of other speakers, or another corpus"
        )
    spoken = {speaker: set[str]() for speaker in speakers}
    for utterance in corpus.utterances:
        spoken[utterance.speaker].add(utterance.emotion)
    emotions = set().union(*spoken.values())

    def is_whole(group: Sequence[str]) -> bool:
        return emotions == set().union(*(spoken[speaker] for speaker in group))

    most = min(DEALT_FOLDS, len(speakers))
    plain = deal_folds(speakers, most)
    candidates = [plain, *(_spread(spoken, count) for count in range(most, len(SIDES) - 1, -1))]
    tests = next((sets for sets in candidates if all(map(is_whole, sets))), plain)
    how = f"In order of name they are dealt one by one to {most} folds."
    if tests is not plain:
        how = f"They are dealt to {len(tests)} folds, so that every side of each has every emotion."
    folds = {}
    for index, test in enumerate(tests):
        others = [*tests[index + 1 :], *tests[:index]]
        validation = next(filter(is_whole, others), others[0])
        folds[str(index + 1)] = {"test": test, "validation": validation}
    return {"notes": [f"Every speaker is tested once. {how}"], "folds": folds}


def _spread(spoken: Mapping[str, set[str]], count: int) -> list[list[str]]:
    """Speakers dealt to test sets so that each set soon has every emotion.

    Speakers with most emotions come first, then in the given order. Each goes to the set where most of their emotions
    are new, and of equals to the smallest.
    """
    sets: list[list[str]] = [[] for _ in range(count)]
    present: list[set[str]] = [set() for _ in range(count)]
    for speaker in sorted(spoken, key=lambda speaker: -len(spoken[speaker])):
        place = min(range(count), key=lambda place: (-len(spoken[speaker] - present[place]), len(sets[place])))
        sets[place].append(speaker)
        present[place] |= spoken[speaker]
    return sets


def _read(path: Path | None) -> dict[str, Any]:
    source = path or files("ser_tf.corpora").joinpath("folds.yaml")
    data = read_yaml(source, "a fold file in YAML", BaseLoader)  # scalars stay text: `no` is a name, `1:30` no number
    if not isinstance(data, dict):
        raise UserError(f"{source}: expected a mapping of corpora to schemes. Received: {data!r}")
    return data


def _mapping(data: Any, allowed: Sequence[str], where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"{where}: expected a mapping of {', '.join(allowed)}. Received: {data!r}")
    for key in data:
        if key not in allowed:
            raise UserError(f"{where}: unknown key {key!r}; expected {', '.join(allowed)}")
    return data


def _parse(name: str, schemes: dict[str, Any], where: str) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Notes of the scheme, and the sides of each fold as written; `same_as` is resolved."""
    scheme = _mapping(schemes[name], ("notes", "same_as", "folds"), where)
    folds = scheme.get("folds", {})
    if "same_as" in scheme:
        base = schemes.get(scheme["same_as"]) if isinstance(scheme["same_as"], str) else None
        if not isinstance(base, dict) or "same_as" in base or not isinstance(base.get("folds"), dict):
            raise UserError(f"{where}: same_as: expected a scheme with folds of its own. Received: {scheme['same_as']}")
        if isinstance(folds, dict):
            folds = base["folds"] | folds
    numbers = [str(number) for number in range(1, len(folds) + 1)]
    if not isinstance(folds, dict) or not folds or sorted(folds) != sorted(numbers):
        received = ", ".join(folds) if isinstance(folds, dict) else repr(folds)
        raise UserError(f"{where}: expected folds numbered 1, 2, 3, ... Received: {received or 'none'}")
    sides = [_mapping(folds[number], SIDES, f"{where}: fold {number}") for number in numbers]
    return tuple(_items(scheme.get("notes", []), f"{where}: notes")), sides


def _items(side: Any, where: str) -> list[str]:
    items = [side] if isinstance(side, str) else side
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise UserError(f"{where}: expected a list or one value. Received: {side!r}")
    return items


def _resolve(folds: list[dict[str, Any]], known: Sequence[str], where: str) -> list[Fold]:
    """Folds with speaker names in place of numbers and ranges; omitted sides are filled in."""

    def named(fold: int, side: str) -> list[str]:
        here = f"{where}: fold {fold + 1}: {side}"
        items = _items(folds[fold].get(side, []), here)
        return sorted(speaker for item in items for speaker in _speakers(item, known, here))

    tests = [named(fold, "test") for fold in range(len(folds))]
    resolved = []
    for index, fold in enumerate(folds):
        validation = named(index, "validation") if "validation" in fold else tests[(index + 1) % len(tests)]
        held_out = {*validation, *tests[index]}
        rest = sorted(speaker for speaker in known if speaker not in held_out)
        train = named(index, "train") if "train" in fold else rest
        resolved.append(Fold(index + 1, tuple(train), tuple(validation), tuple(tests[index])))
    return resolved


def _speakers(item: str, known: Sequence[str], where: str) -> list[str]:
    """The speakers of a full name, a name or number without its corpus, or a range of numbers."""
    names = {speaker.partition(":")[2]: speaker for speaker in known}
    numbers = {int(name): speaker for name, speaker in names.items() if _is_number(name)}
    if item in known:
        return [item]
    if item in names:
        return [names[item]]
    first, _, last = item.partition("-")
    ends = [int(end) for end in (first, last or first) if _is_number(end.strip())]
    if len(ends) == 2 and ends[0] <= ends[1] and numbers.keys() >= set(ends):
        inside = range(ends[0], ends[1] + 1)
        if all(number in numbers for number in inside):
            return [numbers[number] for number in inside]
    raise UserError(f"{where}: unknown speaker {item!r}; expected one of the corpus's {len(known)}, such as {known[0]}")


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) <= _LONGEST_NUMBER


def _check(fold: Fold, where: str) -> None:
    sides: dict[str, list[str]] = {}
    for side in SIDES:
        for speaker in getattr(fold, side):
            sides.setdefault(speaker, []).append(side)
    for speaker, found in sides.items():
        if len(found) > 1:
            raise UserError(
                f"{where}: fold {fold.number}: expected each speaker once. "
                f"Received: {speaker} in {' and in '.join(found)}; take it out of all but one"
            )


def _restricted(fold: Fold, present: set[str], corpus: Corpus, where: str) -> Fold:
    restricted = {}
    for side in SIDES:
        written = getattr(fold, side)
        restricted[side] = tuple(speaker for speaker in written if speaker in present)
        if not restricted[side]:
            remedy = f"add recordings of {', '.join(written)} to {corpus.root}" if written else "name one in the file"
            here = f"{where}: fold {fold.number}: {side}"
            raise UserError(f"{here}: expected at least one speaker. Received: none; {remedy}")
    return Fold(fold.number, **restricted)
