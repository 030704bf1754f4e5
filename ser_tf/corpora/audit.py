"""Read every recording of a corpus and list its defects."""

import hashlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ser_tf.audio.checks import TruncatedRecording
from ser_tf.audio.containers import LFS_SIGNATURE
from ser_tf.audio.decoding import Sound, open_content, open_sound
from ser_tf.corpora.corpus import Exclusion, Utterance, contradictions, is_table
from ser_tf.corpora.facts import facts_of
from ser_tf.corpora.kind import CorpusKind
from ser_tf.corpora.opening import Listing, exclusions_among, list_corpus
from ser_tf.corpora.table import read_table
from ser_tf.errors import UserError, printable

CLIPPING_RULE = "at least 3 consecutive samples of one channel at the same end of the scale"

# Largest positive sample: 127 / 128 with 8 bits; the one of 16 bits also serves finer and float formats.
_FULL_SCALE = {"PCM_S8": 127 / 128, "PCM_U8": 127 / 128}
_FULL_SCALE_OTHERWISE = 32767 / 32768
_LISTED_IN_TEXT = 10


@dataclass(frozen=True)
class Problem:
    """A file and what is wrong with it; the path is relative to the corpus."""

    path: str
    reason: str


@dataclass(frozen=True)
class IdenticalGroup:
    """Utterances that hold the same recording."""

    names: tuple[str, ...]
    same: Literal["bytes", "samples"]
    """Whether the files are equal, or only their samples."""
    labels: tuple[str, ...]
    """Speaker and emotion of each, as in "crema_d:1006 happy"."""
    contradicting: bool
    """Whether the labels differ."""


@dataclass(frozen=True)
class AuditReport:
    """The findings of an audit; paths are relative to the corpus, names are utterance names."""

    corpus: str
    root: str
    files: int
    """Recordings of the corpus, including copies."""
    utterances: int
    seconds: float
    """Total length of the utterances."""
    counts: dict[str, dict[str, int]]
    """Speaker -> emotion -> utterances found."""
    expected: dict[str, dict[str, int]]
    """The same for the complete corpus; empty if its content is not known."""
    missing: tuple[str, ...]
    """Published names without a file."""
    unpublished: tuple[str, ...]
    """Names that fit the corpus but were never published."""
    foreign: tuple[str, ...]
    """Audio files that are no utterance of the corpus."""
    unknown_emotions: tuple[Problem, ...]
    copies: tuple[str, ...]
    """Unused further files of an utterance."""
    differing_copies: tuple[tuple[str, ...], ...]
    """Files of one utterance, in one format, that differ in content."""
    lfs_pointers: tuple[str, ...]
    undecodable: tuple[Problem, ...]
    truncated: tuple[Problem, ...]
    """Shorter than the file header states."""
    empty: tuple[str, ...]
    """No bytes or no samples."""
    silent: tuple[str, ...]
    """Every sample is zero."""
    not_finite: tuple[str, ...]
    """A sample is NaN or infinite."""
    clipped: tuple[str, ...]
    """By `clipping_rule`."""
    clipping_rule: str
    stereo: tuple[str, ...]
    """More than one channel."""
    rates: dict[str, int]
    """Sampling rate in Hz -> files."""
    usual_rate_hz: int | None
    """The published rate; if unknown, the most frequent."""
    odd_rates: dict[str, list[str]]
    """Any other sampling rate in Hz -> files."""
    identical: tuple[IdenticalGroup, ...]
    excluded: tuple[Exclusion, ...]
    """Utterances left out by default, and why."""
    known_faults: tuple[str, ...]
    """Other known faults of the published files and of copies in circulation, whether found here or not."""

    def to_json(self) -> str:
        """The report as a JSON object whose keys are the attributes."""
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """The report as text; long lists are cut short."""
        hours = self.seconds / 3600
        rates = ", ".join(f"{files} at {hz} Hz" for hz, files in self.rates.items()) or "none decoded"
        lines = [
            f"{self.corpus} in {self.root}",
            f"{self.utterances} utterances in {self.files} files, {len(self.counts)} speakers, {hours:.2f} h",
            f"sampling rates: {rates}",
            "",
            *self._count_table(),
            "",
            f"clipped means {self.clipping_rule}",
            "",
        ]
        for title, found in self._findings():
            lines.append(f"{title:<32}{len(found) or '-':>6}")
            lines += [f"    {line}" for line in found[:_LISTED_IN_TEXT]]
            if len(found) > _LISTED_IN_TEXT:
                lines.append(f"    and {len(found) - _LISTED_IN_TEXT} more; the JSON report names all")
        if self.known_faults:
            lines += [
                "",
                "known faults of this corpus and its copies:",
                *(f"    {fault}" for fault in self.known_faults),
            ]
        return "\n".join(lines)

    def _count_table(self) -> list[str]:
        """One row per speaker, one column per emotion; "7/8" is 7 of 8 published."""
        there = {**self.counts, "all": sum(map(Counter, self.counts.values()), Counter())}
        published = {**self.expected, "all": sum(map(Counter, self.expected.values()), Counter())}
        emotions = list(next(iter((self.expected or self.counts).values()), {}))
        rows = [["speaker", *emotions]]
        for speaker in (*sorted(self.counts.keys() | self.expected.keys(), key=_by_number), "all"):
            have, want = there.get(speaker, {}), published.get(speaker, {})
            rows.append([speaker, *(self._cell(have.get(emotion, 0), want.get(emotion, 0)) for emotion in emotions)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return [
            "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(cells))
            for cells in (zip(row, widths, strict=True) for row in rows)
        ]

    def _cell(self, have: int, want: int) -> str:
        return f"{have}" if have == want or not self.expected else f"{have}/{want}"

    def _findings(self) -> list[tuple[str, Sequence[str]]]:
        def reasons(problems: Iterable[Problem]) -> list[str]:
            return [f"{problem.path}: {problem.reason}" for problem in problems]

        excluded = {exclusion.name for exclusion in self.excluded}
        odd_rates = [f"{path}: {hz} Hz" for hz, paths in self.odd_rates.items() for path in paths]
        return [
            ("missing", self.missing),
            ("unpublished names", self.unpublished),
            ("foreign audio files", self.foreign),
            ("unknown emotions", reasons(self.unknown_emotions)),
            ("unused copies", self.copies),
            ("copies that differ", [", ".join(paths) for paths in self.differing_copies]),
            ("git-LFS pointers (git lfs pull)", self.lfs_pointers),
            ("undecodable", reasons(self.undecodable)),
            ("truncated", reasons(self.truncated)),
            ("empty", self.empty),
            ("silent", self.silent),
            ("NaN or infinite samples", self.not_finite),
            ("clipped", self.clipped),
            ("more than one channel", self.stereo),
            (f"rates other than {self.usual_rate_hz} Hz", odd_rates),
            ("identical recordings", [_describe(group, excluded) for group in self.identical]),
            ("left out by default", [f"{exclusion.name}: {exclusion.reason}" for exclusion in self.excluded]),
        ]


def audit(root: Path, *, progress: bool = False) -> AuditReport:
    """Read every recording of a corpus and report its defects; a broken file is a finding, not an error.

    Args:
        root: directory or CSV table, as for `ser_tf.corpora.opening.open_corpus`.
        progress: show a progress bar on stderr.

    Returns:
        The report.

    Raises:
        UserError: there is no corpus, or two.
    """
    root = Path(root)
    listing = _list(root)
    utterances = [utterance for copies in listing.files_of.values() for utterance in copies]
    recordings = dict(zip((utterance.path for utterance in utterances), _read_all(utterances, progress), strict=True))
    return _report(root, listing, recordings)


@dataclass(frozen=True)
class _Recording:
    """The findings in one file."""

    bytes_hash: str = ""
    samples_hash: str = ""
    """Of rate, channels and samples; empty if nothing was decoded."""
    is_lfs_pointer: bool = False
    undecodable: str = ""
    """The reason."""
    truncated: str = ""
    samples: int = 0
    """Per channel."""
    rate_hz: int = 0
    channels: int = 0
    is_silent: bool = False
    is_finite: bool = True
    is_clipped: bool = False

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz if self.rate_hz else 0.0

    @property
    def is_empty(self) -> bool:
        return not (self.samples or self.is_lfs_pointer or self.undecodable or self.truncated)

    @property
    def content(self) -> str:
        """Equal for equal recordings."""
        return self.samples_hash or self.bytes_hash


def _list(root: Path) -> Listing:
    if not is_table(root):
        return list_corpus(root)
    table = read_table(root)
    kind = CorpusKind(table.name, table.name, facts_of(table.name), table.emotions, parse=lambda name: None)
    return Listing(kind, {utterance.name: (utterance,) for utterance in table.utterances}, (), {})


def _read_all(utterances: list[Utterance], progress: bool) -> list[_Recording]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        recordings = pool.map(_read, (utterance.path for utterance in utterances))
        if not progress:
            return list(recordings)
        from rich.console import Console
        from rich.progress import track

        return list(track(recordings, "reading", total=len(utterances), console=Console(stderr=True)))


def _read(path: Path) -> _Recording:
    """Read one file, block by block."""
    bytes_hash = ""
    try:
        with open_content(path) as file:
            bytes_hash = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = file.read(len(LFS_SIGNATURE))
            file.seek(0)
            if not head:
                return _Recording(bytes_hash)
            if head == LFS_SIGNATURE:
                return _Recording(bytes_hash, is_lfs_pointer=True)
            with open_sound(file, str(path)) as sound:
                return _decoded(sound, bytes_hash, path)
    except TruncatedRecording as error:
        return _Recording(bytes_hash, truncated=_reason(error, path))
    except UserError as error:
        return _Recording(bytes_hash, undecodable=_reason(error, path))


def _decoded(sound: Sound, bytes_hash: str, path: Path) -> _Recording:
    """Decode one recording.

    Raises:
        UserError: it cannot be decoded.
    """
    full_scale = _FULL_SCALE.get(sound.subtype, _FULL_SCALE_OTHERWISE)
    samples_hash = hashlib.sha256()
    samples, channels, is_silent, is_finite, is_clipped, truncated = 0, 1, True, True, False, ""
    last_extremes = np.zeros((0, 0), bool)
    try:
        for block in sound.blocks:
            if not samples:
                channels = block.shape[1]
                samples_hash.update(f"{sound.rate_hz} {channels}".encode())
                last_extremes = np.zeros((0, 2 * channels), bool)
            samples += len(block)
            samples_hash.update(block.tobytes())
            is_silent = is_silent and not block.any()
            is_finite = is_finite and bool(np.isfinite(block).all())
            # [samples, 2 * channels]: at the upper end, at the lower end; two samples of the last block come first.
            extremes = np.vstack([last_extremes, np.hstack([block >= full_scale, block <= -full_scale])])
            is_clipped = is_clipped or bool((extremes[:-2] & extremes[1:-1] & extremes[2:]).any())
            last_extremes = extremes[-2:]
    except TruncatedRecording as error:
        truncated = _reason(error, path)
    return _Recording(
        bytes_hash,
        samples_hash.hexdigest() if samples else "",
        truncated=truncated,
        samples=samples,
        rate_hz=sound.rate_hz,
        channels=channels,
        is_silent=bool(samples) and is_silent,
        is_finite=is_finite,
        is_clipped=is_clipped,
    )


def _reason(error: UserError, path: Path) -> str:
    """The problem, without the name of the file."""
    return str(error).removeprefix(f"{printable(path)}: ")


def _report(root: Path, listing: Listing, recordings: dict[Path, _Recording]) -> AuditReport:
    kind = listing.kind
    folder = root.parent if is_table(root) else root
    shown = {path: _shown(path, folder) for path in (*recordings, *listing.foreign, *listing.unknown)}
    used = [copies[0] for copies in listing.files_of.values()]
    published = kind.published_names()
    read = sorted(recordings.items(), key=lambda item: shown[item[0]])

    def paths(condition: Callable[[_Recording], bool]) -> tuple[str, ...]:
        return tuple(shown[path] for path, recording in read if condition(recording))

    def problems(attribute: str) -> tuple[Problem, ...]:
        found = ((shown[path], getattr(recording, attribute)) for path, recording in read)
        return tuple(Problem(path, reason) for path, reason in found if reason)

    of_rate: dict[int, list[str]] = defaultdict(list)
    for path, recording in read:
        if recording.rate_hz:
            of_rate[recording.rate_hz].append(shown[path])
    most_frequent_hz = max(of_rate, key=lambda hz: len(of_rate[hz]), default=None)
    usual_rate_hz = kind.published_rate_hz or most_frequent_hz
    return AuditReport(
        corpus=kind.name,
        root=printable(root),
        files=len(recordings),
        utterances=len(used),
        seconds=sum(recordings[utterance.path].seconds for utterance in used),
        counts=_counts(kind, ((utterance.speaker, utterance.emotion) for utterance in used)),
        expected=_counts(kind, (parsed for name in published if (parsed := kind.parse(name)))),
        missing=tuple(sorted(published - listing.files_of.keys())),
        unpublished=tuple(sorted(listing.files_of.keys() - published)) if published else (),
        foreign=tuple(sorted(shown[path] for path in listing.foreign)),
        unknown_emotions=tuple(Problem(shown[path], reason) for path, reason in sorted(listing.unknown.items())),
        copies=tuple(sorted(shown[copy.path] for copies in listing.files_of.values() for copy in copies[1:])),
        differing_copies=_differing_copies(listing, recordings, shown),
        lfs_pointers=paths(lambda recording: recording.is_lfs_pointer),
        undecodable=problems("undecodable"),
        truncated=problems("truncated"),
        empty=paths(lambda recording: recording.is_empty),
        silent=paths(lambda recording: recording.is_silent),
        not_finite=paths(lambda recording: not recording.is_finite),
        clipped=paths(lambda recording: recording.is_clipped),
        clipping_rule=CLIPPING_RULE,
        stereo=paths(lambda recording: recording.channels > 1),
        rates={str(hz): len(of_rate[hz]) for hz in sorted(of_rate)},
        usual_rate_hz=usual_rate_hz,
        odd_rates={str(hz): of_rate[hz] for hz in sorted(of_rate) if hz != usual_rate_hz},
        identical=_identical_groups(used, recordings),
        excluded=_left_out(kind, used, recordings),
        known_faults=kind.known_faults,
    )


def _counts(kind: CorpusKind, labels: Iterable[tuple[str, str]]) -> dict[str, dict[str, int]]:
    counter = Counter(labels)
    speakers = sorted({speaker for speaker, _ in counter}, key=_by_number)
    return {speaker: {emotion: counter[speaker, emotion] for emotion in kind.emotions} for speaker in speakers}


def _differing_copies(
    listing: Listing, recordings: dict[Path, _Recording], shown: dict[Path, str]
) -> tuple[tuple[str, ...], ...]:
    groups = []
    for copies in listing.files_of.values():
        of_format: dict[str, list[Path]] = defaultdict(list)
        for copy in copies:
            of_format[copy.path.suffix.lower()].append(copy.path)
        groups += [group for group in of_format.values() if len({recordings[path].content for path in group}) > 1]
    return tuple(tuple(shown[path] for path in group) for group in groups)


def _left_out(kind: CorpusKind, used: list[Utterance], recordings: dict[Path, _Recording]) -> tuple[Exclusion, ...]:
    listed = exclusions_among(kind.name, {utterance.name for utterance in used})
    names = {exclusion.name for exclusion in listed}
    others = [utterance for utterance in used if utterance.name not in names]
    return listed + contradictions(_by_content(others, recordings))


def _by_content(used: list[Utterance], recordings: dict[Path, _Recording]) -> list[list[Utterance]]:
    """For each recording, the utterances that hold it."""
    with_content: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in used:
        recording = recordings[utterance.path]
        if recording.content and not recording.is_empty:
            with_content[recording.content].append(utterance)
    return list(with_content.values())


def _identical_groups(used: list[Utterance], recordings: dict[Path, _Recording]) -> tuple[IdenticalGroup, ...]:
    groups = []
    for utterances in _by_content(used, recordings):
        if len(utterances) > 1:
            labels = tuple(f"{utterance.speaker} {utterance.emotion}" for utterance in utterances)
            groups.append(
                IdenticalGroup(
                    names=tuple(utterance.name for utterance in utterances),
                    same="bytes" if len({recordings[item.path].bytes_hash for item in utterances}) == 1 else "samples",
                    labels=labels,
                    contradicting=len(set(labels)) > 1,
                )
            )
    return tuple(sorted(groups, key=lambda group: group.names))


def _describe(group: IdenticalGroup, excluded: set[str]) -> str:
    names = " = ".join(name + (" (left out)" if name in excluded else "") for name in group.names)
    return f"{names}: same {group.same}, {'CONTRADICTING' if group.contradicting else 'same'} labels"


def _by_number(speaker: str) -> tuple[int, str]:
    """Sorts "ravdess:2" before "ravdess:12"."""
    return len(speaker), speaker


def _shown(path: Path, folder: Path) -> str:
    """A path relative to the corpus."""
    relative = path.relative_to(folder) if path.is_relative_to(folder) else path
    return printable(relative.as_posix())
