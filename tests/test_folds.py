import csv
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

import pytest

from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.corpora.folds import Fold, Scheme, deal_folds, known_speakers, load_scheme
from ser_tf.errors import UserError

TOP = Path(__file__).resolve().parents[1]
SCHEMES = [
    *(("ravdess", scheme) for scheme in ("published", "corrected", "complete", "emobox")),
    *(("crema_d", scheme) for scheme in ("published", "corrected", "complete")),
]


def corpus_of(name: str, speakers: Iterable[str] = ()) -> Corpus:
    """A corpus with one utterance of each speaker; by default all actors of RAVDESS or CREMA-D."""
    empty = Corpus(name, Path("recordings"), (), (), (), ())
    speakers = tuple(speakers) or known_speakers(empty)
    utterances = tuple(Utterance(speaker, Path(f"{speaker}.wav"), speaker, "sad") for speaker in speakers)
    return Corpus(name, Path("recordings"), utterances, ("sad",), ("negative",), ())


def number(speaker: str) -> int:
    return int(speaker.partition(":")[2])


def numbers(speakers: Iterable[str]) -> list[int]:
    return sorted(map(number, speakers))


def women_of(corpus: str, shared_data: Path) -> set[int]:
    if corpus == "ravdess":
        return set(range(2, 25, 2))
    with (shared_data / "crema_d" / "VideoDemographics.csv").open() as file:
        return {int(row["ActorID"]) for row in csv.DictReader(file) if row["Sex"] == "Female"}


@pytest.mark.parametrize(("corpus", "name"), SCHEMES)
def test_no_speaker_on_two_sides(corpus: str, name: str) -> None:
    for fold in load_scheme(name, corpus_of(corpus)).folds:
        sides = [set(fold.train), set(fold.validation), set(fold.test)]
        assert all(sides)
        assert sum(map(len, sides)) == len(set.union(*sides))


@pytest.mark.parametrize(
    ("corpus", "fold", "train", "validation", "test"),
    [  # Table 1, columns picked by hand; the row labels put right
        ("ravdess", 1, [*range(1, 19)], [19, 20, 21], [22, 23, 24]),
        ("ravdess", 2, [*range(3, 19)], [21, 22, 23], [1, 2, 24]),
        ("ravdess", 3, [*range(5, 23)], [1, 23, 24], [2, 3, 4]),
        ("ravdess", 10, [*range(1, 13), *range(19, 25)], [13, 14, 15], [16, 17, 18]),
        ("crema_d", 1, [*range(1001, 1074)], [*range(1074, 1083)], [*range(1083, 1092)]),
        ("crema_d", 4, [*range(1001, 1010), *range(1028, 1092)], [*range(1010, 1019)], [*range(1019, 1028)]),
        ("crema_d", 10, [*range(1001, 1064), *range(1082, 1092)], [*range(1064, 1073)], [*range(1073, 1082)]),
    ],
)
def test_published_is_table_1(corpus: str, fold: int, train: list[int], validation: list[int], test: list[int]) -> None:
    published = load_scheme("published", corpus_of(corpus)).fold(fold)
    assert numbers(published.train) == train
    assert numbers(published.validation) == validation
    assert numbers(published.test) == test


def test_slips_of_published_ravdess() -> None:
    published = load_scheme("published", corpus_of("ravdess"))
    assert numbers(published.never_tested) == [19, 20, 21]
    assert numbers(published.tested_twice) == [2, 4, 6, 8, 10, 12, 14, 16, 24]
    for fold in published.folds:
        assert [actor % 2 for actor in numbers(fold.test)].count(0) == 2, "two women and one man"
        assert [actor % 2 for actor in numbers(fold.validation)].count(0) == 1, "one woman and two men"
    assert any("labels swapped" in note for note in published.notes)
    assert any("3-18" in note for note in published.notes)


def test_corrected_ravdess_differs_in_the_training_actors_of_fold_2_only() -> None:
    published, corrected = (load_scheme(name, corpus_of("ravdess")) for name in ("published", "corrected"))
    assert numbers(corrected.fold(2).train) == [*range(3, 21)]
    assert [fold.number for fold in corrected.folds if fold != published.fold(fold.number)] == [2]
    assert (corrected.fold(2).validation, corrected.fold(2).test) == (
        published.fold(2).validation,
        published.fold(2).test,
    )
    assert published.hash != corrected.hash


def test_crema_d_published_and_corrected(shared_data: Path) -> None:
    published, corrected = (load_scheme(name, corpus_of("crema_d")) for name in ("published", "corrected"))
    assert corrected.folds == published.folds
    assert corrected.hash == published.hash
    assert any("Equal to published" in note for note in corrected.notes)
    assert numbers(published.never_tested) == [1082]
    assert published.tested_twice == ()
    women = women_of("crema_d", shared_data)
    counts = [len(women & set(numbers(fold.test))) for fold in published.folds]
    assert (min(counts), max(counts)) == (1, 7)


@pytest.mark.parametrize("corpus", ["ravdess", "crema_d"])
def test_complete_tests_everybody_once_and_validates_on_the_next_fold(corpus: str) -> None:
    complete = load_scheme("complete", corpus_of(corpus))
    assert len(complete.folds) == 10
    assert sorted(speaker for fold in complete.folds for speaker in fold.test) == list(complete.speakers)
    assert complete.never_tested == complete.tested_twice == ()
    for fold in complete.folds:
        assert fold.validation == complete.fold(fold.number % 10 + 1).test
        assert set(fold.train) == set(complete.speakers) - set(fold.validation) - set(fold.test)


@pytest.mark.parametrize(
    ("corpus", "sizes"),
    # 24 = 4 x 3 + 6 x 2 actors; 91 = 1 x 10 + 9 x 9
    [("ravdess", [3] * 4 + [2] * 6), ("crema_d", [10] + [9] * 9)],
)
def test_complete_balances_the_sexes_by_its_written_rule(corpus: str, sizes: list[int], shared_data: Path) -> None:
    everybody = set(map(number, known_speakers(corpus_of(corpus))))
    women = women_of(corpus, shared_data)
    tests = [set(numbers(fold.test)) for fold in load_scheme("complete", corpus_of(corpus)).folds]
    dealt = deal_folds([*map(str, sorted(women)), *map(str, sorted(everybody - women))], 10)
    assert tests == [{int(actor) for actor in test} for test in dealt]
    assert sorted(map(len, tests), reverse=True) == sizes
    # As even as can be: over folds, and inside each fold (an odd fold cannot do better than one).
    women_per_fold = [len(test & women) for test in tests]
    men_per_fold = [len(test - women) for test in tests]
    assert max(women_per_fold) - min(women_per_fold) <= 1
    assert max(men_per_fold) - min(men_per_fold) <= 1
    assert all(abs(w - m) == (w + m) % 2 for w, m in zip(women_per_fold, men_per_fold, strict=True))


def test_emobox_validates_on_the_first_woman_and_man_of_the_following_folds() -> None:
    emobox = load_scheme("emobox", corpus_of("ravdess"))
    written = [(1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22)]
    assert [tuple(numbers(fold.test)) for fold in emobox.folds] == written
    assert emobox.never_tested == emobox.tested_twice == ()
    for fold in emobox.folds:
        following = [actor for test in written[fold.number :] + written[: fold.number] for actor in test]
        woman = next(actor for actor in following if actor % 2 == 0)
        man = next(actor for actor in following if actor % 2 == 1)
        assert set(numbers(fold.validation)) == {woman, man}
        assert len(fold.train) == 24 - 4 - 2


@pytest.mark.parametrize(("speakers", "folds"), [(3, 3), (9, 9), (12, 10)])
def test_other_corpora_are_dealt(speakers: int, folds: int) -> None:
    names = [f"synthetic:{speaker:02d}" for speaker in range(1, speakers + 1)]
    complete = load_scheme("complete", corpus_of("synthetic", names))
    assert len(complete.folds) == folds
    assert sorted(speaker for fold in complete.folds for speaker in fold.test) == names
    # Dealt in order: with 12 speakers fold 1 tests the first and the eleventh and validates on fold 2's.
    if speakers == 12:
        assert complete.fold(1).test == ("synthetic:01", "synthetic:11")
        assert complete.fold(1).validation == ("synthetic:02", "synthetic:12")
        assert complete.fold(10).validation == complete.fold(1).test


def spoken(**emotions: str) -> Corpus:
    """A table; the letters of a speaker are the emotions of the utterances."""
    utterances = tuple(
        Utterance(f"{speaker}-{emotion}", Path(f"{speaker}-{emotion}.wav"), f"table:{speaker}", emotion)
        for speaker, letters in emotions.items()
        for emotion in letters
    )
    return Corpus("table", Path("recordings"), utterances, ("h", "s"), ("", ""), ())


def emotions_on(corpus: Corpus, speakers: Iterable[str]) -> set[str]:
    return {utterance.emotion for utterance in corpus.utterances if utterance.speaker in set(speakers)}


def test_of_ten_speakers_one_lacks_an_emotion() -> None:
    corpus = spoken(**{f"{number:02d}": "h" if number == 4 else "hs" for number in range(1, 11)})
    scheme = load_scheme("complete", corpus)
    assert scheme.notes == (
        "Every speaker is tested once. They are dealt to 9 folds, so that every side of each has every emotion.",
    )
    # Nine speakers with both emotions make nine folds; the tenth shares the test set of the first, the smallest one.
    assert [fold.test for fold in scheme.folds[:2]] == [("table:01", "table:04"), ("table:02",)]
    assert not scheme.never_tested
    assert not scheme.tested_twice
    for fold in scheme.folds:
        for side in (fold.train, fold.validation, fold.test):
            assert emotions_on(corpus, side) == {"h", "s"}


def test_speakers_of_one_emotion_each_are_dealt_in_pairs() -> None:
    corpus = spoken(a="h", b="s", c="h", d="s", e="h", f="s", g="h")
    scheme = load_scheme("complete", corpus)
    assert len(scheme.folds) == 3  # there are three of "s"
    assert all(emotions_on(corpus, fold.test) == {"h", "s"} for fold in scheme.folds)
    assert sorted(speaker for fold in scheme.folds for speaker in fold.test) == list(corpus.speakers)


def test_an_emotion_of_two_speakers_is_trained_and_validated_if_possible() -> None:
    corpus = spoken(a="h", b="hs", c="h", d="hs", e="h")
    scheme = load_scheme("complete", corpus)
    assert [fold.test for fold in scheme.folds] == [(f"table:{letter}",) for letter in "abcde"]
    # Whoever is tested, the first of the following who has both validates.
    assert [fold.validation[0][-1] for fold in scheme.folds] == ["b", "d", "d", "b", "b"]
    for fold in (scheme.fold(number) for number in (1, 3, 5)):
        assert emotions_on(corpus, fold.train) == emotions_on(corpus, fold.validation) == {"h", "s"}


def test_too_few_speakers_to_deal() -> None:
    with pytest.raises(UserError, match=r"recordings: expected at least 3 speakers.*Received: 2 \(table:a, table:b\)"):
        load_scheme("complete", corpus_of("table", ["table:a", "table:b"]))


def test_missing_speakers_are_listed_and_change_the_hash() -> None:
    whole = corpus_of("crema_d")
    partial = corpus_of("crema_d", [speaker for speaker in whole.speakers if number(speaker) not in (1001, 1082)])
    scheme = load_scheme("published", partial)
    assert numbers(scheme.missing_speakers) == [1001, 1082]
    assert numbers(scheme.fold(2).test) == [*range(1002, 1010)]
    assert scheme.never_tested == ()
    assert scheme.hash != load_scheme("published", whole).hash
    assert load_scheme("published", whole).missing_speakers == ()


def test_a_side_emptied_by_missing_speakers_is_refused() -> None:
    partial = corpus_of("ravdess", [speaker for speaker in corpus_of("ravdess").speakers if number(speaker) < 22])
    with pytest.raises(
        UserError, match=r"folds.yaml: ravdess: published: fold 1: test: expected at least one.*add rec"
    ):
        load_scheme("published", partial)


def own_file(tmp_path: Path, scheme: str, corpus: str = "ravdess") -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(f"{corpus}:\n  mine: {scheme}\n")
    return path


def test_the_hash_of_an_own_file_does_not_depend_on_its_form(tmp_path: Path) -> None:
    ravdess = corpus_of("ravdess")
    short = load_scheme("mine", ravdess, own_file(tmp_path, "{folds: {1: {test: 1-3, validation: 4, train: 5-24}}}"))
    long = load_scheme(
        "mine",
        ravdess,
        own_file(tmp_path, '{notes: [again], folds: {1: {validation: [04], test: [3, "1 - 2"], train: [6-24, 5]}}}'),
    )
    rest = load_scheme("mine", ravdess, own_file(tmp_path, "{folds: {1: {test: [3, 1, 2], validation: [4]}}}"))
    assert numbers(short.fold(1).test) == [1, 2, 3]
    assert short.hash == long.hash == rest.hash
    assert (short.notes, long.notes) == ((), ("again",))
    other = load_scheme("mine", ravdess, own_file(tmp_path, "{folds: {1: {test: 1-4, validation: 5}}}"))
    assert other.hash != short.hash


def test_hash_is_the_same_tomorrow() -> None:
    # sha256 of [[["a"],["b"],["c","d"]]], computed with coreutils: printf ... | sha256sum
    scheme = Scheme("mine", "table", (Fold(1, ("a",), ("b",), ("c", "d")),), ("note",), ("a", "b", "c", "d"), ())
    assert scheme.hash == "a50446754dba0f29"


def test_names_of_a_table_may_look_like_ranges_or_words_of_yaml(tmp_path: Path) -> None:
    table = corpus_of("table", ["table:1-2", "table:anna", "table:no", "table:3"])
    path = own_file(
        tmp_path, "{folds: {1: {test: 1-2, validation: no}, 2: {test: table:anna, validation: 3}}}", "table"
    )
    scheme = load_scheme("mine", table, path)
    assert scheme.fold(1) == Fold(1, ("table:3", "table:anna"), ("table:no",), ("table:1-2",))
    assert scheme.fold(2) == Fold(2, ("table:1-2", "table:no"), ("table:3",), ("table:anna",))
    assert scheme.never_tested == ("table:3", "table:no")


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (
            "{folds: {1: {test: 1-3, validation: 3-4}}}",
            r"fold 1: expected each speaker once.*in validation and in test",
        ),
        ("{folds: {1: {test: 1, validation: 2, train: [3, 1]}}}", "in train and in test"),
        ("{folds: {1: {test: [1, 1-2], validation: 3}}}", "in test and in test"),
        ("{folds: {1: {test: 1}}}", "in validation and in test"),  # the next fold is the fold itself
        ("{folds: {1: {test: 25, validation: 3}}}", r"fold 1: test: unknown speaker '25'; expected one of .* 24, such"),
        ("{folds: {1: {test: 20-25, validation: 3}}}", "unknown speaker '20-25'"),
        ("{folds: {1: {test: 3-1, validation: 5}}}", "unknown speaker '3-1'"),
        ("{folds: {1: {test: crema_d:1001, validation: 5}}}", "unknown speaker 'crema_d:1001'"),
        ("{folds: {1: {test: [], validation: 3}}}", r"fold 1: test: expected at least one.*none; name one in the file"),
        ("{folds: {1: {validation: 3, train: 4}}}", "fold 1: test: expected at least one"),
        ("{folds: {1: {test: 1-12, validation: 13-24}}}", "fold 1: train: expected at least one"),
        ("{folds: {1: {test: {a: b}}}}", r"fold 1: test: expected a list or one value. Received: \{'a': 'b'\}"),
        ("{folds: {1: {test: 1, val: 2}}}", "fold 1: unknown key 'val'; expected train, validation, test"),
        ("{folds: {1: 5}}", "fold 1: expected a mapping of train, validation, test. Received: '5'"),
        ("{folds: {1: {test: 1}, 3: {test: 2}}}", "mine: expected folds numbered 1, 2, 3, .* Received: 1, 3"),
        ("{folds: {}}", "expected folds numbered .* Received: none"),
        ("{folds: [1]}", r"expected folds numbered .* Received: \['1'\]"),
        ("{folds: {1: {test: 1}, 1: {test: 2}}}", "expected a fold file in YAML; 1 for the second time, in line 2"),
        ("{folds: {1: {test: 1", "expected a fold file in YAML; while parsing"),
        ("{same_as: published}", "same_as: expected a scheme with folds of its own. Received: published"),
        ("{same_as: [published]}", r"same_as: expected a scheme with folds of its own. Received: \['published'\]"),
        ("{same_as: {a: b}}", "same_as: expected a scheme with folds of its own"),
        ("{folds: {1: {test: [[1]], validation: 3}}}", r"fold 1: test: expected a list or one value"),
        (f"{{folds: {{1: {{test: {'9' * 2000}, validation: 3}}}}}}", "fold 1: test: unknown speaker '999"),
        ("{? [a, b] : 1}", "expected a fold file in YAML"),
        ("{same_as: mine}", "same_as: expected a scheme with folds of its own. Received: mine"),
        ("{fold: {}}", "mine: unknown key 'fold'; expected notes, same_as, folds"),
        ("{notes: {a: b}, folds: {1: {test: 1, validation: 2}}}", "notes: expected a list or one value"),
        ("[]", r"mine: expected a mapping of notes, same_as, folds. Received: \[\]"),
    ],
)
def test_own_file_is_refused_in_one_line(tmp_path: Path, scheme: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_scheme("mine", corpus_of("ravdess"), own_file(tmp_path, scheme))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a mapping of corpora to schemes. Received: None"),
        ("ravdess: [1]", r"ravdess: expected a mapping of schemes. Received: \['1'\]"),
        ("crema_d: {}", "expected schemes for corpus ravdess. Received: crema_d"),
        ("ravdess: {yours: {}}", "no scheme 'mine' for corpus ravdess; choose one of: yours"),
    ],
)
def test_files_without_the_scheme(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load_scheme("mine", corpus_of("ravdess"), path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.yaml: expected a fold file in YAML; .*No such file"):
        load_scheme("mine", corpus_of("ravdess"), tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("corpus", "there"),
    [
        (corpus_of("ravdess"), "published, corrected, complete, emobox"),
        (corpus_of("synthetic", ["a", "b", "c"]), "complete"),
    ],
)
def test_an_unknown_scheme_lists_the_known_ones(corpus: Corpus, there: str) -> None:
    with pytest.raises(UserError, match=f"no scheme 'newest' for corpus {corpus.name}; choose one of: {there}$"):
        load_scheme("newest", corpus)


@pytest.mark.parametrize("fold", [0, 11])
def test_unknown_fold(fold: int) -> None:
    with pytest.raises(UserError, match=f"fold: expected 1 to 10 in scheme 'complete'. Received: {fold}"):
        load_scheme("complete", corpus_of("ravdess")).fold(fold)


def test_the_package_carries_the_file_at_the_top() -> None:
    packaged = files("ser_tf.corpora").joinpath("folds.yaml")
    assert packaged.read_text() == (TOP / "folds.yaml").read_text()
    assert (TOP / "ser_tf" / "corpora" / "folds.yaml").is_symlink(), "one file, not two copies"
