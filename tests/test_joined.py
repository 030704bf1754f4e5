from pathlib import Path

import pytest

from ser_tf.corpora.corpus import Corpus
from ser_tf.corpora.joined import joined
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


def test_one_corpus_stays_alone(tmp_path):
    corpus = joined([table(tmp_path / "labels.csv", "anna sad, bea happy")])
    assert corpus.speakers == (f"{tmp_path.name}/labels:anna", f"{tmp_path.name}/labels:bea")


def test_what_does_not_go_together_is_refused(tmp_path):
    one = table(tmp_path / "one" / "labels.csv", "anna sad, bea happy")
    with pytest.raises(UserError, match=r"labels.csv: .*Received: one/labels:anna in both; give each corpus once"):
        joined([one, one])
    other = table(tmp_path / "other" / "labels.csv", "dora joyful, emil bored")
    with pytest.raises(UserError, match=r"expected an emotion that another .*: happy, sad. Received: bored, joyful"):
        joined([other, one])
    header = "path,speaker,emotion,polarity"
    odd = table(tmp_path / "odd" / "labels.csv", "dora sad positive, emil happy positive", header)
    with pytest.raises(UserError, match=r"the polarity that the other corpora give sad. Received: positive and neg"):
        joined([one, odd])
