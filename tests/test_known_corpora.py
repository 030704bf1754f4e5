"""The published corpora: their file names, labels, folds and faults."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.corpora.audit import audit
from ser_tf.corpora.facts import KNOWN_FACTS
from ser_tf.corpora.folds import load_scheme
from ser_tf.corpora.joined import open_corpora
from ser_tf.corpora.known import KNOWN_CORPORA
from ser_tf.corpora.opening import open_corpus
from ser_tf.corpora.speakers import recognise
from ser_tf.errors import UserError

BY_NAME = {kind.name: kind for kind in KNOWN_CORPORA}
WHEEL = {
    "neutral": "neutral",
    "bored": "neutral",
    **dict.fromkeys(("calm", "happy", "surprised"), "positive"),
    **dict.fromkeys(("sad", "angry", "fearful", "disgust"), "negative"),
}


def write(root: Path, *names: str, rate_hz: int = 16_000) -> Path:
    """Different recordings of 0.1 s."""
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).integers(-9000, 9000, rate_hz // 10, dtype=np.int16)
        soundfile.write(path, samples, rate_hz)
    return root


@pytest.mark.parametrize(
    ("corpus", "file", "name", "speaker", "emotion"),
    [
        ("emodb", "wav/03a01Fa.wav", "03a01Fa", "03", "happy"),
        ("emodb", "16b10Wb.wav", "16b10Wb", "16", "angry"),
        ("emodb", "08a02La.flac", "08a02La", "08", "bored"),
        ("savee", "AudioData/DC/a01.wav", "DC_a01", "DC", "angry"),
        ("savee", "KL/sa15.wav", "KL_sa15", "KL", "sad"),
        ("savee", "JE_su03.wav", "JE_su03", "JE", "surprised"),
        ("savee", "JK/n30.wav", "JK_n30", "JK", "neutral"),
        ("tess", "OAF_Fear/OAF_back_fear.wav", "OAF_back_fear", "OAF", "fearful"),
        ("tess", "YAF_back_ps.wav", "YAF_back_ps", "YAF", "surprised"),
        ("tess", "OAF_neutral/OA_bite_neutral.wav", "OAF_bite_neutral", "OAF", "neutral"),
        ("emovo", "f1/dis-f1-b1.wav", "dis-f1-b1", "f1", "disgust"),
        ("emovo", "rab-m3-l4.wav", "rab-m3-l4", "m3", "angry"),
        ("nemo", "EB0_anger_1.wav", "EB0_anger_1", "EB0", "angry"),
        ("nemo", "SM0_surprised_90.wav", "SM0_surprised_90", "SM0", "surprised"),
        ("nemo", "SM0_surprise_90.wav", "SM0_surprise_90", "SM0", "surprised"),
        ("urdu", "Sad/SM25_F34_S084.wav", "SM25_F34_S084", "SM25", "sad"),
        ("urdu", "SF1_F01_H01.wav", "SF1_F01_H01", "SF1", "happy"),
    ],
)
def test_a_file_name_gives_utterance_speaker_and_emotion(corpus, file, name, speaker, emotion):
    kind = BY_NAME[corpus]
    assert kind.name_of(Path(file)) == name
    assert kind.parse(name) == (f"{corpus}:{speaker}", emotion)
    others = [other.parse(other.name_of(Path(file))) for other in KNOWN_CORPORA if other is not kind]
    assert not any(others), "one corpus only"
    assert recognise(Path("anywhere") / file) == (f"{corpus}:{speaker}", name)


@pytest.mark.parametrize(
    "file",
    [
        "04a01Fa.wav",  # no speaker of EmoDB
        "03a01Xa.wav",  # no emotion of EmoDB
        "a01.wav",  # SAVEE's without its speaker's folder
        "XY/a01.wav",
        "DC/b01.wav",
        "OAF_back_bored.wav",
        "dis-f4-b1.wav",
        "EB0_love_1.wav",
        "SX25_F34_S084.wav",
        "SM25_F34_X084.wav",
    ],
)
def test_other_names_belong_to_no_corpus(file):
    assert not any(kind.parse(kind.name_of(Path(file))) for kind in KNOWN_CORPORA)


@pytest.mark.parametrize(
    ("corpus", "utterances", "speakers", "per_emotion"),
    [
        # SAVEE: 4 men x (6 x 15 + 30). EMOVO: 6 actors x 7 emotions x 14 sentences.
        ("savee", 480, 4, {**dict.fromkeys(BY_NAME["savee"].emotions, 60), "neutral": 120}),
        ("emovo", 588, 6, dict.fromkeys(BY_NAME["emovo"].emotions, 84)),
    ],
)
def test_published_names_have_the_published_counts(corpus, utterances, speakers, per_emotion):
    labels = [BY_NAME[corpus].parse(name) for name in BY_NAME[corpus].published_names()]
    assert len(labels) == utterances
    assert len({speaker for speaker, _ in labels}) == speakers
    assert Counter(emotion for _, emotion in labels) == per_emotion


@pytest.mark.parametrize("kind", KNOWN_CORPORA, ids=lambda kind: kind.name)
def test_every_corpus_states_licence_emotions_and_polarity(kind):
    facts = KNOWN_FACTS[kind.name]
    assert all((kind.written, facts.title, facts.licence, facts.terms, facts.speech))
    assert len({*kind.emotions}) == len(kind.emotions) > 1


def test_polarities_are_those_of_the_paper_and_bored_is_neutral(tmp_path):
    write(tmp_path, "03a01Fa.wav", "08a01Lb.wav")
    corpus = open_corpus(tmp_path)
    assert (corpus.name, corpus.speakers) == ("emodb", ("emodb:03", "emodb:08"))
    assert dict(zip(corpus.emotions, corpus.polarities, strict=True)) == {
        emotion: WHEEL[emotion] for emotion in ("neutral", "happy", "sad", "angry", "fearful", "disgust", "bored")
    }


def test_audit_reports_what_a_corpus_lacks_and_its_known_faults(tmp_path):
    write(tmp_path, *(f"{speaker}/{take}.wav" for speaker in ("DC", "JE") for take in ("a01", "n30")), rate_hz=44_100)
    write(tmp_path, "JK_h01.wav", "notes.wav", rate_hz=22_050)
    report = audit(tmp_path)
    assert (report.corpus, report.utterances, len(report.missing)) == ("savee", 5, 475)
    assert report.counts["savee:DC"]["angry"] == report.counts["savee:JE"]["neutral"] == 1
    assert report.expected["savee:KL"]["neutral"] == 30
    assert report.odd_rates == {"22050": ["JK_h01.wav"]}
    assert report.foreign == ("notes.wav",)
    assert "known faults of this corpus and its copies:\n    360 files have an offset above" in report.to_text()


def test_a_misspelt_file_and_a_doubled_tree_of_tess_count_once(tmp_path):
    names = ("OAF_neutral/OA_bite_neutral.wav", "YAF_sad/YAF_back_sad.wav")
    write(tmp_path, *names)
    write(tmp_path / "TESS Toronto emotional speech set data", *names)
    report = audit(tmp_path)
    assert (report.utterances, len(report.copies), report.foreign) == (2, 2, ())
    assert report.counts["tess:OAF"]["neutral"] == 1


def test_two_speakers_are_too_few_for_folds(tmp_path):
    write(tmp_path, "OAF_back_sad.wav", "YAF_back_ps.wav")
    with pytest.raises(UserError, match=r"at least 3 speakers.* Received: 2 \(tess:OAF, tess:YAF\); add .* corpus"):
        load_scheme("complete", open_corpus(tmp_path))


@pytest.mark.parametrize(
    ("folder", "utterances", "speakers", "folds"),
    # nEMO: the even sentence numbers of 4481; one of its speakers is never surprised and shares a fold.
    [("emovo", 588, 6, 6), ("nemo", 2246, 9, 8)],
)
def test_the_real_corpora_are_recognised(shared_data, folder, utterances, speakers, folds):
    if not (shared_data / folder).is_dir():
        pytest.skip(f"no {folder} in {shared_data}")
    corpus = open_corpus(shared_data / folder)
    assert (corpus.name, len(corpus.utterances), len(corpus.speakers)) == (folder, utterances, speakers)
    scheme = load_scheme("complete", corpus)
    assert len(scheme.folds) == folds
    assert not scheme.never_tested
    assert not scheme.tested_twice
    rows = csv.DictReader((shared_data / folder / "labels.csv").open())
    labels = {Path(row["path"]).stem: row["emotion"] for row in rows}
    assert {utterance.name: utterance.emotion for utterance in corpus.utterances} == labels


def test_the_real_corpora_are_joined(shared_data):
    roots = [shared_data / "nemo", shared_data / "emovo"]
    if not all(root.is_dir() for root in roots):
        pytest.skip(f"no nemo and emovo in {shared_data}")
    corpus = open_corpora(roots, ["neutral", "happy", "sad", "angry", "surprised"])
    assert corpus.left_out.keys() == {"fearful", "disgust"}
    assert len(corpus.utterances) + sum(corpus.left_out.values()) == 588 + 2246
    scheme = load_scheme("complete", corpus)
    assert len(scheme.folds) == 6  # EMOVO's; nEMO's folds 7 and 8 join the first two
    assert (scheme.never_tested, scheme.tested_twice) == ((), ())
    spoken: dict[str, set[str]] = {speaker: set() for speaker in corpus.speakers}
    for utterance in corpus.utterances:
        spoken[utterance.speaker].add(utterance.emotion)
    for fold in scheme.folds:
        for side in (fold.train, fold.validation, fold.test):
            for name in ("emovo", "nemo"):
                emotions = set().union(*(spoken[speaker] for speaker in side if speaker.startswith(f"{name}:")))
                assert emotions == {*corpus.emotions}, (fold.number, side)
