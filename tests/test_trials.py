"""The held-out speakers, and the recordings to compare."""

import os
from collections import Counter

import numpy as np
import pytest

from ser_tf.errors import UserError
from ser_tf.pretraining.manifest import ShardUtterance
from ser_tf.pretraining.trials import draw_trials, hold_out, read_trials

SEX = {f"a:{number}": ("female", "male")[number % 2] for number in range(8)}


class Listed:
    """Shards whose manifest is all that the tests read."""

    folders = ("shards",)

    def __init__(self, *utterances: ShardUtterance) -> None:
        self._utterances = utterances

    def utterances(self):
        return iter(self._utterances)


def utterance(name: str, speaker: str, sample_hash: int = 0) -> ShardUtterance:
    return ShardUtterance(name, speaker, None, f"{name}.wav", sample_hash or hash((speaker, name)))


def utterances(speakers: int, takes: int) -> list[ShardUtterance]:
    return [
        utterance(f"{speaker}/{take}", f"a:{speaker}", 1 + speaker * takes + take)
        for speaker in range(speakers)
        for take in range(takes)
    ]


def test_held_out_speakers_come_from_every_corpus_and_sex():
    counts = {f"{corpus}:{number}": 9 for corpus in "ab" for number in range(20)}
    sex = {speaker: ("female", "male")[int(speaker[2:]) % 2] for speaker in counts}
    sides = hold_out(counts, sex, held_out=0.4, sides=2)  # 16 of 40, four of each corpus and sex
    everyone = [*sides[0], *sides[1]]
    assert len(set(everyone)) == 16
    assert Counter((name[0], sex[name]) for name in everyone) == dict.fromkeys(
        [(corpus, kind) for corpus in "ab" for kind in ("female", "male")], 4
    )
    assert [Counter(sex[name] for name in side) for side in sides] == [{"female": 4, "male": 4}] * 2
    backwards = dict(reversed(counts.items()))
    assert hold_out(backwards, sex, held_out=16, sides=2) == sides


def test_a_speaker_with_one_recording_is_never_held_out():
    counts = {f"a:{number}": 1 + number % 2 for number in range(20)}
    (side,) = hold_out(counts, {}, held_out=8, sides=1)
    assert len(side) == 4  # half of 8 choose the epoch, the others would be tested
    assert all(counts[speaker] == 2 for speaker in side)
    with pytest.raises(UserError, match=r"besides 10 for verification. Received: 10 .* two recordings or more, 20 in"):
        hold_out(counts, {}, held_out=10, sides=2)


def test_trials_are_balanced_and_differ():
    found = draw_trials(utterances(8, 10), SEX, count=200)
    assert len({frozenset(trial[1:]) for trial in found.trials}) == 200
    assert found.same.sum() == 100
    speaker = [each.speaker for each in found.utterances]
    of_one = Counter(speaker[trial.first] for trial in found.trials if trial.same)
    assert all(speaker[trial.first] == speaker[trial.second] for trial in found.trials if trial.same)
    assert set(of_one.values()) == {12, 13}  # 100 over eight speakers
    of_two = [(speaker[trial.first], speaker[trial.second]) for trial in found.trials if not trial.same]
    assert all(one != other for one, other in of_two)
    assert sum(SEX[one] == SEX[other] for one, other in of_two) == 50
    assert draw_trials(reversed(utterances(8, 10)), SEX, count=200).hash == found.hash


def test_two_speakers_are_compared_within_their_corpus():
    others = [
        each._replace(speaker=f"b:{each.speaker}", sample_hash=each.sample_hash + 100) for each in utterances(3, 10)
    ]
    lonely = [each._replace(speaker="c:0", sample_hash=each.sample_hash + 200) for each in utterances(1, 10)]
    found = draw_trials([*utterances(4, 10), *others, *lonely], SEX, count=160)
    corpus = [each.speaker[0] for each in found.utterances]
    pairs = Counter(frozenset((corpus[trial.first], corpus[trial.second])) for trial in found.trials if not trial.same)
    assert pairs.keys() == {frozenset("a"), frozenset("b")}  # a speaker alone in its corpus is compared with itself
    assert pairs.total() == found.same.sum() == 70
    alone = draw_trials([*utterances(1, 10), *lonely], SEX, count=160)  # no corpus has two
    assert not alone.same.all()


def test_trials_of_few_recordings_are_as_many_of_one_speaker_as_of_two():
    found = draw_trials(utterances(2, 3), {}, count=1000)  # three pairs of each speaker, nine of both
    assert found.same.sum() == 6
    assert len(found.trials) == 12


def test_recordings_of_equal_samples_are_not_compared():
    twice = [utterance("0/copy", "a:0", sample_hash=1), *utterances(2, 2)]
    assert draw_trials(twice, {}, count=100).same.sum() == 2
    with pytest.raises(UserError, match=r"one of them with two different recordings. Received: 2 different recordings"):
        draw_trials([utterance("0/copy", "a:0", sample_hash=1), *utterances(2, 1)], {}, count=100)


def test_the_score_is_the_cosine():
    found = draw_trials(utterances(2, 2), {}, count=100)
    angles = np.radians([0, 60, 90, 90])  # of the two of a:0 and the two of a:1
    scores = found.score(np.stack([np.cos(angles), np.sin(angles)], axis=1))
    of_pair = {trial[1:]: score for trial, score in zip(found.trials, scores, strict=True)}
    assert of_pair[0, 1] == pytest.approx(0.5)
    assert of_pair[2, 3] == pytest.approx(1.0)


VOXCELEB = Listed(
    utterance("id10270/x6uYqmx31kE/00001", "voxceleb1:id10270"),
    utterance("id10270/8jEAjG6SegY/00008", "voxceleb1:id10270"),
    utterance("id10300/ize_eiCFEg0/00003", "voxceleb1:id10300"),
)
LINES = (
    "1 id10270/x6uYqmx31kE/00001.wav id10270/8jEAjG6SegY/00008.wav",
    "0 id10270/x6uYqmx31kE/00001.wav id10300/ize_eiCFEg0/00003.wav",
)


def test_a_list_of_voxceleb_is_read(tmp_path):
    path = tmp_path / "veri_test.txt"
    path.write_text("\n".join(LINES) + "\n\n")
    found = read_trials(path, VOXCELEB)
    names = [each.name for each in found.utterances]
    assert [(trial.same, names[trial.first], names[trial.second]) for trial in found.trials] == [
        (True, "id10270/x6uYqmx31kE/00001", "id10270/8jEAjG6SegY/00008"),
        (False, "id10270/x6uYqmx31kE/00001", "id10300/ize_eiCFEg0/00003"),
    ]
    assert found.speakers == ("voxceleb1:id10270", "voxceleb1:id10300")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            (*LINES, "0 id10270/x6uYqmx31kE/00001.wav id9/a/1.wav"),
            r"one recording id9/a/1.wav \(line 3\) in shards. "
            "Received: none; add its corpus",
        ),
        ((*LINES, "1 / a.wav"), r"expected '1 PATH PATH' or '0 PATH PATH' in line 3. Received: \['1', '/', 'a.wav'\]"),
        ((*LINES, "0 . a.wav"), r"expected '1 PATH PATH' or '0 PATH PATH' in line 3. Received: \['0', '.', "),
        ((*LINES, "2 a.wav b.wav"), r"expected '1 PATH PATH' or '0 PATH PATH' in line 3. Received: \['2', "),
        (
            ("0" + LINES[0][1:], LINES[1]),
            r"line 1 says 0, and the recordings are of voxceleb1:id10270 and vox",
        ),
        (LINES[:1], r"pairs of one speaker \(1\) and of two \(0\). Received: 1 of one kind"),
        ((), r"Received: 0 of one kind"),
    ],
)
def test_a_list_that_does_not_fit_is_refused(tmp_path, lines, message):
    path = tmp_path / "trials.txt"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=message):
        read_trials(path, VOXCELEB)


def test_a_list_whose_names_two_corpora_have_is_refused(tmp_path):
    path = tmp_path / "trials.txt"
    path.write_text("1 0/0.wav 0/1.wav\n0 0/0.wav 1/0.wav\n")
    with pytest.raises(UserError, match=r"one recording 0/0.wav \(line 1\) in shards. Received: several; add"):
        read_trials(path, Listed(*utterances(2, 2), utterance("0/0", "b:0")))
    with pytest.raises(UserError, match="expected a readable list of trials"):
        read_trials(tmp_path / "absent.txt", VOXCELEB)


def test_a_pipe_is_no_list_of_trials(tmp_path):
    os.mkfifo(tmp_path / "trials.txt")  # a read would wait for ever
    with pytest.raises(UserError, match="expected a readable list of trials; no regular file"):
        read_trials(tmp_path / "trials.txt", VOXCELEB)
