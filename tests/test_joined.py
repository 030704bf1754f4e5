"""Several corpora as one: names, emotions, folds, and what does not go together."""

from dataclasses import replace
from itertools import chain, product
from pathlib import Path

import pytest

from ser_tf.corpora.corpus import Corpus, Utterance
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.joined import joined, open_corpora
from ser_tf.corpora.opening import open_corpus
from ser_tf.errors import UserError


def table(path: Path, rows: str, header: str = "path,speaker,emotion") -> Corpus:
    """A corpus of empty files: `rows` names speaker and emotion, as in "anna sad, bea happy"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [header]
    for number, row in enumerate(rows.split(", ")):
        name = f"{path.stem}-{number}.wav"
        (path.parent / name).touch()
        lines.append(",".join([name, *row.split()]))
    path.write_text("\n".join(lines) + "\n")
    return open_corpus(path)


def test_speakers_and_emotions_of_several_tables_come_together(tmp_path):
    one = table(tmp_path / "one" / "labels.csv", "anna sad, bea happy, bea bored")
    two = table(tmp_path / "two" / "labels.csv", "anna calm, carl happy")
    corpus = joined([one, two])
    assert corpus.name == "one/labels+two/labels"
    assert corpus.speakers == ("one/labels:anna", "one/labels:bea", "two/labels:anna", "two/labels:carl")
    assert corpus.emotions == ("calm", "happy", "sad", "bored")  # the known ones in their order, then the others
    assert corpus.polarities == ("positive", "positive", "negative", "")
    assert len({utterance.name for utterance in corpus.utterances}) == 5
    assert corpus.root == tmp_path


def touch(root: Path, *names: str) -> Path:
    """Empty files: opening a corpus looks at names only."""
    for name in names:
        path = root / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def emovo(root: Path, *emotions: str) -> Path:
    """6 speakers."""
    return touch(root, *(f"{emotion}-{who}-b1" for emotion in emotions for who in ("f1", "f2", "f3", "m1", "m2", "m3")))


def savee(root: Path, *emotions: str) -> Path:
    """4 speakers."""
    return touch(root, *(f"{who}/{emotion}01" for emotion in emotions for who in ("DC", "JE", "JK", "KL")))


def tess(root: Path, *emotions: str) -> Path:
    """2 speakers."""
    return touch(root, *(f"{who}_back_{emotion}" for emotion in emotions for who in ("OAF", "YAF")))


def emodb(root: Path, *emotions: str) -> Path:
    """3 speakers."""
    return touch(root, *(f"{who}a01{emotion}a" for emotion in emotions for who in ("03", "08", "09")))


def test_one_corpus_stays_alone(tmp_path):
    corpus = joined([table(tmp_path / "labels.csv", "anna sad, bea happy")])
    assert corpus.speakers == (f"{tmp_path.name}/labels:anna", f"{tmp_path.name}/labels:bea")
    assert corpus.composition == {}


def test_several_corpora_are_one_in_any_order(tmp_path):
    roots = [savee(tmp_path / "s", "a", "n"), emovo(tmp_path / "e", "rab", "tri"), tess(tmp_path / "t", "ps", "sad")]
    corpus = open_corpora(roots)
    assert open_corpora(roots[::-1]) == corpus
    assert corpus.name == "emovo+savee+tess"
    assert corpus.roots == (roots[1], roots[0], roots[2])
    assert corpus.speakers[:7] == (*(f"emovo:{who}" for who in ("f1", "f2", "f3", "m1", "m2", "m3")), "savee:DC")
    assert corpus.emotions == ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    assert corpus.composition["corpora"].keys() == {"emovo", "savee", "tess"}
    assert corpus.composition["corpora"]["savee"]["speakers"] == 4
    assert corpus.composition["corpora"]["savee"]["emotions"]["angry"] == 4


def test_a_single_corpus_keeps_its_names(tmp_path):
    corpus = open_corpora([emovo(tmp_path, "rab", "tri")])
    assert corpus == open_corpus(tmp_path)
    mine = table(tmp_path / "labels.csv", "anna sad, bea happy")
    assert open_corpora([mine.root]) == mine


def test_chosen_emotions_are_kept_and_the_others_counted(tmp_path):
    roots = [emovo(tmp_path / "e", "rab", "tri", "dis", "sor"), savee(tmp_path / "s", "a", "sa", "n")]
    corpus = open_corpora(roots, ["sad", "angry"])
    assert (corpus.emotions, corpus.polarities) == (("sad", "angry"), ("negative", "negative"))
    assert {utterance.emotion for utterance in corpus.utterances} == {"sad", "angry"}
    assert len(corpus.utterances) == 2 * (6 + 4)
    assert corpus.left_out == {"disgust": 6, "surprised": 6, "neutral": 4}
    assert corpus.composition["left_out_emotions"] == corpus.left_out
    alone = open_corpora(roots[:1], ["angry", "sad", "surprised"])
    assert (alone.emotions, alone.left_out) == (("sad", "angry", "surprised"), {"disgust": 6})
    everything = open_corpora(roots[:1], ["angry", "sad", "surprised", "disgust"])
    assert everything.composition == {}


def test_folds_of_joined_corpora(tmp_path):
    roots = [
        emovo(tmp_path / "e", "rab", "tri"),
        savee(tmp_path / "s", "a", "sa"),
        tess(tmp_path / "t", "angry", "sad"),
    ]
    with pytest.warns(UserWarning, match="^tess: always trained on, never tested: it has 2 speakers$"):
        scheme = load_scheme("complete", open_corpora(roots))
    # EMOVO has 6 folds and SAVEE 4, a speaker each in order of name: so there are 4, and EMOVO's 5 and 6 join 1 and 2.
    # Each validates on the test speakers of the next: EMOVO's 5 on the sixth, its 6 on the first, who is not in fold 2.
    assert [fold.test for fold in scheme.folds] == [
        ("emovo:f1", "emovo:m2", "savee:DC"),
        ("emovo:f2", "emovo:m3", "savee:JE"),
        ("emovo:f3", "savee:JK"),
        ("emovo:m1", "savee:KL"),
    ]
    assert [fold.validation for fold in scheme.folds] == [
        ("emovo:f2", "emovo:m3", "savee:JE"),
        ("emovo:f1", "emovo:f3", "savee:JK"),
        ("emovo:m1", "savee:KL"),
        ("emovo:m2", "savee:DC"),
    ]
    everybody = {*open_corpora(roots).speakers}
    for fold in scheme.folds:
        assert {"tess:OAF", "tess:YAF"} <= {*fold.train}
        assert {*fold.train} == everybody - {*fold.test} - {*fold.validation}
    assert scheme.never_tested == ("tess:OAF", "tess:YAF")
    assert scheme.tested_twice == ()
    assert "Fold i tests the folds i, i + 4, ... of emovo (6)." in scheme.notes
    assert scheme.notes[-1] == "tess: always trained on, never tested: it has 2 speakers"


@pytest.mark.parametrize("sizes", list(product((3, 4, 5, 7, 10, 12), (3, 5, 6, 8, 12))))
def test_every_corpus_is_on_all_sides_of_every_fold_and_every_speaker_tested_once(sizes):
    parts = [
        Corpus(name, Path(name), tuple(Utterance(who, Path(who), who, "sad") for who in speakers), ("sad",), ("",), ())
        for name, size in zip("ab", sizes, strict=True)
        for speakers in [[f"{name}:{number:02d}" for number in range(size)]]
    ]
    utterances = parts[0].utterances + parts[1].utterances
    scheme = load_scheme("complete", replace(parts[0], name="a+b", utterances=utterances, parts=tuple(parts)))
    assert len(scheme.folds) == min(10, *sizes)  # more speakers than 10 share folds
    for fold in scheme.folds:
        sides = [fold.train, fold.validation, fold.test]
        assert all({speaker[0] for speaker in side} == {"a", "b"} for side in sides)
        assert sorted(chain(*sides)) == sorted(scheme.speakers)
    assert sorted(chain(*(fold.test for fold in scheme.folds))) == sorted(scheme.speakers)


def test_fold_i_joins_fold_i_where_both_have_as_many():
    ravdess, crema_d = (
        Corpus(name, Path(name), tuple(Utterance(who, Path(who), who, "sad") for who in speakers), ("sad",), ("",), ())
        for name, speakers in (
            ("ravdess", [f"ravdess:{actor:02d}" for actor in range(1, 25)]),
            ("crema_d", [f"crema_d:{actor}" for actor in range(1001, 1092)]),
        )
    )
    both = replace(ravdess, name="crema_d+ravdess", parts=(crema_d, ravdess))
    for name in ("published", "corrected", "complete"):
        own = [load_scheme(name, corpus).folds for corpus in (crema_d, ravdess)]
        scheme = load_scheme(name, both)
        assert len(scheme.folds) == 10
        for fold, first, second in zip(scheme.folds, *own, strict=True):
            for side in ("train", "validation", "test"):
                assert getattr(fold, side) == getattr(first, side) + getattr(second, side), side
    with pytest.raises(UserError, match="no scheme 'emobox' for corpus crema_d; choose one of: published, corrected"):
        load_scheme("emobox", both)


def test_a_file_of_folds_has_a_section_for_each_corpus(tmp_path):
    corpus = open_corpora([emodb(tmp_path / "d", "W", "T"), savee(tmp_path / "s", "a", "sa")])
    folds = tmp_path / "mine.yaml"
    emodb_folds = "emodb: {mine: {folds: {1: {train: 3, validation: 8, test: 9}}}}\n"
    folds.write_text(emodb_folds)
    with pytest.raises(UserError, match=r"mine.yaml: expected schemes for corpus savee. Received: emodb"):
        load_scheme("mine", corpus, folds)
    folds.write_text(emodb_folds + "savee: {mine: {folds: {1: {train: [DC, JE], validation: JK, test: KL}}}}\n")
    (fold,) = load_scheme("mine", corpus, folds).folds
    assert fold.train == ("emodb:03", "savee:DC", "savee:JE")
    assert (fold.validation, fold.test) == (("emodb:08", "savee:JK"), ("emodb:09", "savee:KL"))


def test_corpora_of_two_speakers_each_have_no_folds(tmp_path):
    mine = table(tmp_path / "mine" / "labels.csv", "anna sad, bea angry")
    corpus = open_corpora([tess(tmp_path / "t", "angry", "sad"), mine.root])
    with pytest.raises(UserError, match=r"a corpus with at least 3 speakers, .* Received: mine/labels\+tess; add one"):
        load_scheme("complete", corpus)


@pytest.mark.parametrize(
    ("roots", "emotions", "message"),
    [
        ([], [], r"^corpus: expected at least one directory of recordings or CSV table. Received: none"),
        (["e", "e"], [], r"/e: expected each corpus once. Received: emovo also from .*/e; give it once"),
        (["e", "e/../e"], [], "give it once"),
        (["e", "e2"], [], r"/e2: .* Received: emovo also from .*/e; put the files of both into one folder"),
        (["a/x/labels.csv", "b/x/labels.csv"], [], r"Received: x/labels also from .*; rename one of the tables"),
        (
            ["e", "copy.csv"],
            [],
            r"copy.csv: expected a corpus without the speakers of .*/e. Received: .*/e/rab-f1-b1.wav of "
            r".*/copy:anna, who is emovo:f1 there; leave one of the two out",
        ),
        (["e"], ["joyful"], r"^emotions: expected some of angry, sad. Received: joyful$"),
        (["e", "s"], ["joyful", "sad"], r"^emotions: expected some of angry, neutral, sad. Received: joyful$"),
        (["e"], ["sad"], r"^emotions: expected at least two of angry, sad. Received: sad only$"),
        (["e", "s"], ["angry", "sad"], r"/s: expected at least two of the emotions angry, sad, .* Received: angry; ch"),
        (["e", "m"], ["angry", "sad"], r"/m: expected at least two of the emotions .* Received: none; choose more"),
        (["e", "m"], [], r"expected an emotion that another of the corpora has"),
        (
            ["d", "odd/labels.csv"],
            [],
            r"expected the polarity that the other corpora give bored. Received: negative and neutral; correct the "
            "column `polarity` of your table, or leave bored out with --emotions",
        ),
    ],
)
def test_corpora_that_do_not_go_together_are_refused(tmp_path, roots, emotions, message):
    emovo(tmp_path / "e", "rab", "tri")
    touch(tmp_path / "e2", "rab-f1-b2", "tri-f2-b2")  # no speaker need be in both
    savee(tmp_path / "s", "a", "n")
    tess(tmp_path / "m", "happy", "ps")
    emodb(tmp_path / "d", "L", "W")
    for place in ("a", "b"):
        table(tmp_path / place / "x" / "labels.csv", "anna sad, bea angry")
    table(tmp_path / "odd" / "labels.csv", "anna bored negative, bea angry ", "path,speaker,emotion,polarity")
    rows = ["path,speaker,emotion", "e/rab-f1-b1.wav,anna,angry", "e/tri-f2-b1.wav,bea,sad"]
    (tmp_path / "copy.csv").write_text("\n".join(rows))
    with pytest.raises(UserError, match=message) as refusal:
        open_corpora([tmp_path / root for root in roots], emotions)
    assert "\n" not in str(refusal.value)


def test_tables_that_do_not_go_together_are_refused(tmp_path):
    one = table(tmp_path / "one" / "labels.csv", "anna sad, bea happy")
    other = table(tmp_path / "other" / "labels.csv", "dora joyful, emil bored")
    with pytest.raises(UserError, match=r"expected an emotion that another .*: happy, sad. Received: bored, joyful"):
        joined([other, one])
    header = "path,speaker,emotion,polarity"
    odd = table(tmp_path / "odd" / "labels.csv", "dora sad positive, emil happy positive", header)
    with pytest.raises(UserError, match=r"the polarity that the other corpora give sad. Received: positive and neg"):
        joined([one, odd])
