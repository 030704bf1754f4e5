import os
from collections import Counter
from pathlib import Path

import pytest

from ser_tf.corpora.corpus import EMOTIONS, POLARITIES, Exclusion
from ser_tf.corpora.known import KNOWN_CORPORA, crema_d, ravdess
from ser_tf.corpora.opening import exclusions_among, open_corpus
from ser_tf.errors import UserError

RAVDESS_NAMES = ("03-01-05-01-02-01-12", "03-01-01-01-01-01-02")


def write_files(root: Path, *names: str) -> Path:
    """Empty files: opening a corpus reads only names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write_table(root: Path, text: str) -> Path:
    """A table beside the empty recordings a.wav, b.flac and sub/c.ogg."""
    write_files(root, "a.wav", "b.flac", "sub/c.ogg")
    table = root / "table.csv"
    table.write_text(text, encoding="utf-8")
    return table


@pytest.mark.parametrize(
    ("parse", "stem", "expected"),
    [
        (ravdess.parse, "03-01-05-01-02-01-12", ("ravdess:12", "angry")),
        (ravdess.parse, "03-01-01-01-01-01-02", ("ravdess:02", "neutral")),
        (ravdess.parse, "03-01-08-02-02-02-24", ("ravdess:24", "surprised")),
        (ravdess.parse, "03-02-05-01-02-01-12", None),  # song
        (ravdess.parse, "01-01-05-01-02-01-12", None),  # video with sound
        (ravdess.parse, "02-01-05-01-02-01-12", None),  # video without sound
        (ravdess.parse, "03-01-05-01-02-01-12-copy", None),
        (ravdess.parse, "1001_DFA_ANG_XX", None),
        (crema_d.parse, "1001_DFA_ANG_XX", ("crema_d:1001", "angry")),
        (crema_d.parse, "1091_IEO_FEA_HI", ("crema_d:1091", "fearful")),
        (crema_d.parse, "1040_ITH_SAD_XX", ("crema_d:1040", "sad")),
        (crema_d.parse, "03-01-05-01-02-01-12", None),
    ],
)
def test_parse(parse, stem, expected):
    assert parse(stem) == expected


@pytest.mark.parametrize(
    ("module", "utterances", "speakers", "per_emotion"),
    [
        # method.md, section 7
        (ravdess, 1440, 24, {**dict.fromkeys(ravdess.EMOTIONS, 192), "neutral": 96}),
        (crema_d, 7442, 91, {**dict.fromkeys(crema_d.EMOTIONS, 1271), "neutral": 1087}),
    ],
)
def test_published_names_have_the_published_counts(module, utterances, speakers, per_emotion):
    labels = [module.parse(name) for name in module.published_names()]
    assert len(labels) == utterances
    assert len({speaker for speaker, _ in labels}) == speakers
    assert Counter(emotion for _, emotion in labels) == per_emotion


def test_every_emotion_of_a_known_corpus_has_a_polarity():
    assert set(POLARITIES) == set(EMOTIONS)
    for kind in KNOWN_CORPORA:
        assert set(kind.emotions) == {*kind.emotions} & {*EMOTIONS, *kind.polarities}
        assert not {*kind.polarities} & {*EMOTIONS}, "a word of the project keeps its polarity"
        assert {*kind.polarities.values()} <= {*POLARITIES.values()}


@pytest.mark.parametrize(
    ("folder", "name", "utterances", "speakers", "excluded"),
    [("ravdess", "ravdess", 1439, 24, 1), ("crema_d", "crema_d", 7435, 91, 7)],
)
def test_the_real_corpora_are_complete(shared_data, folder, name, utterances, speakers, excluded):
    corpus = open_corpus(shared_data / folder)
    assert corpus.name == name
    assert (corpus.counts()["utterances"], corpus.counts()["speakers"]) == (utterances, speakers)
    assert corpus.counts()["excluded"] == len(corpus.exclusions) == excluded
    everything = open_corpus(shared_data / folder, keep_excluded=True)
    assert len(everything.utterances) == utterances + excluded
    assert everything.exclusions == ()


def test_any_nesting_and_any_case_of_any_audio_suffix(tmp_path):
    write_files(
        tmp_path,
        "03-01-01-01-01-01-02.MP3",
        "deep/er/03-01-05-01-02-01-12.Flac",
        "deep/03-01-08-01-02-01-12.ogg",
        "deep/03-02-08-01-02-01-12.wav",
        "deep/01-01-08-01-02-01-12.wav",
        "deep/03-01-08-01-02-01-13.wma",
        "readme.txt",
        "noise.wav",
    )
    corpus = open_corpus(tmp_path)
    assert [(u.name, u.speaker, u.emotion, u.path.relative_to(tmp_path).as_posix()) for u in corpus.utterances] == [
        ("03-01-01-01-01-01-02", "ravdess:02", "neutral", "03-01-01-01-01-01-02.MP3"),
        ("03-01-05-01-02-01-12", "ravdess:12", "angry", "deep/er/03-01-05-01-02-01-12.Flac"),
        ("03-01-08-01-02-01-12", "ravdess:12", "surprised", "deep/03-01-08-01-02-01-12.ogg"),
    ]
    assert corpus.speakers == ("ravdess:02", "ravdess:12")
    assert corpus.emotions == ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    assert corpus.polarities == (
        "neutral",
        "positive",
        "positive",
        "negative",
        "negative",
        "negative",
        "negative",
        "positive",
    )
    assert corpus.counts() == {
        "utterances": 3,
        "speakers": 2,
        "emotions": {**dict.fromkeys(EMOTIONS, 0), "neutral": 1, "angry": 1, "surprised": 1},
        "excluded": 0,
    }


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ("Actor_12/{}.wav", "copy/Actor_12/{}.wav", "Actor_12/{}.wav"),
        ("b/{}.wav", "a/{}.wav", "a/{}.wav"),
        ("{}.mp3", "AudioWAV/{}.wav", "AudioWAV/{}.wav"),
        ("{}.ogg", "sub/{}.flac", "sub/{}.flac"),
        ("{}.m4a", "sub/{}.mp3", "sub/{}.mp3"),
        ("{}.m4a", "sub/{}.m4a", "{}.m4a"),
    ],
    ids=["less nested", "first by path", "wav before mp3", "flac before ogg", "mp3 before m4a", "m4a"],
)
def test_a_doubled_utterance_counts_once(tmp_path, first, second, chosen):
    stem, other = RAVDESS_NAMES
    write_files(tmp_path, first.format(stem), second.format(stem), f"{other}.wav")
    corpus = open_corpus(tmp_path)
    assert {u.name: u.path.relative_to(tmp_path).as_posix() for u in corpus.utterances} == {
        stem: chosen.format(stem),
        other: f"{other}.wav",
    }


def test_a_name_of_an_older_release_is_updated(tmp_path):
    write_files(tmp_path, "1040_ITH_SAD_X.wav", "1001_DFA_ANG_XX.wav")
    assert [u.name for u in open_corpus(tmp_path).utterances] == ["1001_DFA_ANG_XX", "1040_ITH_SAD_XX"]


def test_exclusions_name_only_existing_utterances(tmp_path):
    write_files(tmp_path, "1076_MTI_SAD_XX.wav", "1001_DFA_ANG_XX.wav", "1002_DFA_SAD_XX.wav")
    corpus = open_corpus(tmp_path)
    assert corpus.exclusions == (Exclusion("1076_MTI_SAD_XX", "every sample is zero"),)
    assert [u.name for u in corpus.utterances] == ["1001_DFA_ANG_XX", "1002_DFA_SAD_XX"]


@pytest.mark.parametrize(("kind", "excluded"), [(ravdess.CORPUS, 1), (crema_d.CORPUS, 7)])
def test_every_exclusion_is_a_published_name(kind, excluded):
    assert len(kind.exclusions) == excluded
    assert kind.exclusions.keys() <= kind.published_names()
    for name in (kind.name, "crema_d+ravdess"):
        assert {exclusion.name for exclusion in exclusions_among(name, kind.published_names())} == {*kind.exclusions}


def test_the_synthetic_corpus_is_recognised(tmp_path):
    write_files(tmp_path, "syn-01-happy-01.wav", "syn-02-sad-01.wav")
    corpus = open_corpus(tmp_path)
    assert (corpus.name, [u.emotion for u in corpus.utterances]) == ("synthetic", ["happy", "sad"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], r"expected recordings \(\.wav, \.flac, .*\.opus, \.mp3, \.m4a, .*\)\. Received: a directory without any"),
        (["readme.txt"], "Received: a directory without any"),
        (["03-01-05-01-02-01-12.wma", "b.amr"], r"Received: 2 in other formats, such as .*\.amr; check the path"),
        (
            ["noise.wav", "song.mp3"],
            r"known corpus \(crema_d, .*, synthetic\)\. Received: 2 audio files .* CSV table",
        ),
        (
            ["03-01-05-01-02-01-12.wav", "1001_DFA_ANG_XX.wav"],
            "expected files of one corpus. Received: files of crema_d and ravdess; put each corpus into its own",
        ),
        (["DC/a01.wav", "OAF_back_ps.wav"], "Received: files of savee and tess; put each corpus into its own"),
        (
            ["03-01-09-01-02-01-12.wav"],
            r"03-01-09-01-02-01-12\.wav: expected an emotion code from 01 to 08\. Received: 09",
        ),
        (["03-01-00-01-02-01-12.wav", "03-01-05-01-02-01-12.wav"], "Received: 00. Rename or remove the file"),
        (["1001_DFA_JOY_XX.wav"], r"1001_DFA_JOY_XX\.wav: expected one of the emotion codes ANG, .*\. Received: JOY"),
        (
            ["03-01-05-01-02-01-12.wav", "03-01-05-01-02-01-11.wav"],
            r"at least two emotions\. Received: angry only \(2 utterances of ravdess\)",
        ),
        (
            ["03-01-05-01-02-01-12.wav", "03-01-04-01-02-01-12.wav"],
            r"at least two speakers\. Received: ravdess:12 only \(2 utterances of ravdess\)",
        ),
        (["1076_MTI_SAD_XX.wav"], r"at least two emotions\. Received: none only \(0 utterances"),
    ],
)
def test_an_unusable_directory_is_refused(tmp_path, files, message):
    write_files(tmp_path, *files)
    with pytest.raises(UserError, match=message) as refusal:
        open_corpus(tmp_path)
    assert str(refusal.value).startswith(str(tmp_path))
    assert "\n" not in str(refusal.value)


def test_a_missing_directory_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"nowhere: expected a directory of recordings or a CSV table\. Received: nothing"
    ):
        open_corpus(tmp_path / "nowhere")


def test_a_single_recording_is_refused(tmp_path):
    write_files(tmp_path, "03-01-05-01-02-01-12.wav")
    with pytest.raises(UserError, match=r"expected a directory of recordings or a CSV table\. Received: another file"):
        open_corpus(tmp_path / "03-01-05-01-02-01-12.wav")


def test_a_directory_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def walk(top, onerror):
        onerror(PermissionError(13, "Permission denied", str(top)))
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(UserError, match=r"expected a readable directory\. Received: Permission denied"):
        open_corpus(tmp_path)


def test_a_file_of_another_corpus_with_an_unknown_emotion_is_foreign(tmp_path):
    write_files(tmp_path, *(f"{name}.wav" for name in RAVDESS_NAMES), "1234_JAN_MON_XX.wav")
    assert [u.name for u in open_corpus(tmp_path).utterances] == sorted(RAVDESS_NAMES)


def test_a_table(tmp_path):
    table = write_table(
        tmp_path,
        "speaker,path,emotion,polarity,note\n"
        "anna, b.flac ,Proud,positive,x\n"
        "bert,sub/c.ogg,sad,,\n"
        f"anna,{tmp_path / 'a.wav'},bored,,\n",
    )
    corpus = open_corpus(table)
    # known words first, then the others by alphabet; "bored" has no polarity that anyone knows
    assert corpus.emotions == ("sad", "bored", "proud")
    assert corpus.polarities == ("negative", "", "positive")
    assert corpus.speakers == ("table:anna", "table:bert")
    assert {u.name: (u.path, u.speaker, u.emotion) for u in corpus.utterances} == {
        str(tmp_path / "a"): (tmp_path / "a.wav", "table:anna", "bored"),
        "b": (tmp_path / "b.flac", "table:anna", "proud"),
        "sub/c": (tmp_path / "sub/c.ogg", "table:bert", "sad"),
    }
    assert [u.name for u in corpus.utterances] == sorted(u.name for u in corpus.utterances)
    assert (corpus.name, corpus.root, corpus.exclusions) == ("table", table, ())


def test_a_tables_polarity_overrides_the_wheel(tmp_path):
    table = write_table(
        tmp_path,
        "path,speaker,emotion,polarity\na.wav,anna,surprised,\nb.flac,bert,surprised,negative\nsub/c.ogg,bert,sad,\n",
    )
    assert dict(zip(open_corpus(table).emotions, open_corpus(table).polarities, strict=True)) == {
        "surprised": "negative",
        "sad": "negative",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"table\.csv: expected the columns path, speaker, emotion in row 1.* Received: an empty file"),
        ("path,speaker\na.wav,anna\n", r"columns path, speaker, emotion in row 1, .* Received: 'path, speaker'"),
        (
            "path,speaker,emotion\na.wav,anna,sad\nb.flac,,sad\n",
            r"table\.csv, row 3: expected a value for `speaker`\. Received: nothing",
        ),
        ("path,speaker,emotion\na.wav,anna\n", r"row 2: expected a value for `emotion`"),
        (
            "path,speaker,emotion\nx.wav,anna,sad\n",
            r"row 2: expected a recording\. Received: path='x\.wav', and .* no file",
        ),
        (
            "path,speaker,emotion\na.wav,anna,sad\n./a.wav,bert,happy\n",
            r"row 3: expected each recording once\. Received: path='a' \(without suffix\) again; remove one row",
        ),
        (
            "path,speaker,emotion,polarity\na.wav,anna,sad,bad\n",
            r"row 2: expected a polarity among negative, neutral, positive\. Received: 'bad'",
        ),
        (
            "path,speaker,emotion,polarity\na.wav,anna,proud,positive\nb.flac,anna,proud,negative\n",
            r"row 3: expected one polarity for each emotion\. Received: 'proud' as negative and, above, as positive",
        ),
        *(
            (f"path,speaker,emotion\na.wav,anna,sad\nb.flac,bert,{cell}\n", rf"row \d: expected {message}")
            for cell, message in (
                ("nan", r"a value for `emotion`\. Received: 'nan', which stands for no value; fill it in or remove"),
                ("NAN", "a value for `emotion`"),
                ("NA", r"a value for `emotion`\. Received: 'NA', which stands for no value"),  # as R writes it
                (101 * "x", "a `emotion` of at most 100 characters. Received: 101 characters, 'xxx"),
                ('"hap\npy"', r"one line for `emotion`\. Received: 'hap\\npy'; mend the quotation marks"),
                ("hap\u2028py", "one line for `emotion`"),
                (r"$\x{$", r"an emotion of letters and digits, .* Received: '\$\\\\x\{\$'; rename the emotion"),
                ("=1+1", "an emotion of letters and digits"),
                ("happy\x07", "an emotion of letters and digits"),
                ("Truth", "an emotion of letters and digits.* Received: 'Truth'"),
                ("hot, not cold", r"at most 3 cells, as in row 1\. Received: 4; put quotation marks around"),
            )
        ),
        *(
            (f"path,speaker,emotion\na.wav,anna,sad\nb.flac,{cell},happy\n", rf"row \d: expected {message}")
            for cell, message in (
                ("NaN", r"a value for `speaker`\. Received: 'NaN', which stands for no value"),
                (101 * "x", "a `speaker` of at most 100 characters"),
                ("*", "a speaker's name of visible characters"),
                ("b\x1bert", "a speaker's name of visible characters"),
                ('"bert\ncarl"', "one line for `speaker`"),
                ("Anna", r"one spelling of a speaker's name\. Received: 'Anna' and, above, 'anna'; write them alike"),
                ("\uff41nna", "one spelling of a speaker's name"),
            )
        ),
        (
            "path,speaker,emotion\na.wav,01,sad\nb.flac,1,happy\n",
            r"row 3: expected one spelling of a speaker's name\. Received: '1' and, above, '01'",
        ),
        (
            "path,speaker,emotion\na.wav,anna,sad\nsub/../a.wav,bert,happy\n",
            r"row 3: expected each recording once\. Received: path='a'",
        ),
        (f"path,speaker,emotion\n{'x' * 5000}.wav,anna,sad\n", r"row 2: expected a recording\. Received: path='xxx"),
        ("path,speaker,emotion\na\0.wav,anna,sad\n", r"row 2: expected a recording|CSV table in UTF-8"),
        (
            "path,speaker,emotion,Path\na.wav,anna,sad,b.flac\n",
            r"columns .* each once, .*'path, speaker, emotion, path'",
        ),
        (
            'path,speaker,emotion,note\na.wav,anna,sad,"he\nb.flac,bert,happy,\n',
            r"readable CSV table in UTF-8\. Received: .*, in row 3; mend its quotation marks",
        ),
        ("path,speaker,emotion\na.wav,anna,sad\nb.flac,bert,sad\n", r"at least two emotions\. Received: sad only"),
        (
            "path,speaker,emotion\na.wav,anna,sad\nb.flac,anna,happy\n",
            r"at least two speakers\. Received: table:anna only",
        ),
    ],
)
def test_a_bad_table_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as refusal:
        open_corpus(write_table(tmp_path, text))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "path, speaker, emotion\n a.wav , anna , happy \nsub/c.ogg, bert, sad\n",
        'path, speaker, emotion\n"a.wav", "anna", "happy"\n"sub/c.ogg", bert, sad\n',
        "path;speaker;emotion;note\na.wav;anna;happy;1,5\nsub/c.ogg;bert;sad;2,5\n",
        'path;speaker;emotion;"note, by hand, if any, or none"\na.wav;anna;happy;\nsub/c.ogg;bert;sad;\n',
        "path\tspeaker\temotion\r\na.wav\tanna\thappy\r\nsub/c.ogg\tbert\tsad\r\n",
        "path,speaker,emotion\na.wav,anna,happy\nsub\\c.ogg,bert,sad\n",
        "Emotion, Path ,SPEAKER\nHappy,a.wav,anna\nsad,sub/c.ogg,bert\n",
        "id,path,speaker,age,emotion,,\n1,a.wav,anna,30,happy,,\n\n2,sub/c.ogg,bert,,sad,,\n,,,,\n",
        "path,speaker,emotion,polarity\nsub/../a.wav,anna,happy,nan\nsub/c.ogg,bert,sad,NaN\n",
        "\ufeffpath,speaker,emotion\na.wav,anna,happy\nsub/c.ogg,bert,sad\n",
    ],
    ids=[
        "spaces",
        "quotes",
        "semicolons",
        "commas in a title",
        "tabs",
        "backslashes",
        "order and case",
        "extra columns",
        "empty",
        "BOM",
    ],
)
def test_tables_as_programs_write_them(tmp_path, text):
    corpus = open_corpus(write_table(tmp_path, text))
    assert [(u.name, u.path.resolve(), u.speaker, u.emotion) for u in corpus.utterances] == [
        ("a", (tmp_path / "a.wav").resolve(), "table:anna", "happy"),
        ("sub/c", (tmp_path / "sub/c.ogg").resolve(), "table:bert", "sad"),
    ]
    assert corpus.polarities == ("positive", "negative")


def test_a_table_composes_letters(tmp_path):
    rows = "a.wav,Jose\u0301,fro\u0308hlich", "b.flac,Jos\u00e9,Hot  anger (acted)", "sub/c.ogg,bert,fr\u00f6hlich"
    text = "\n".join(["path,speaker,emotion", *rows])
    corpus = open_corpus(write_table(tmp_path, text))
    assert corpus.speakers == ("table:Jos\u00e9", "table:bert")
    assert corpus.emotions == ("fr\u00f6hlich", "hot anger (acted)")


def test_no_emotion_is_named_like_a_column():
    from ser_tf.corpora.table import RESERVED
    from ser_tf.runs.predictions import FIRST_COLUMNS

    assert set(FIRST_COLUMNS) < RESERVED


def test_a_table_that_is_not_text_is_refused(tmp_path):
    table = tmp_path / "table.csv"
    with pytest.raises(UserError, match=r"expected a readable CSV table in UTF-8\. Received: .*No such file"):
        open_corpus(table)
    table.write_bytes(b"path,speaker,emotion\n\xff\xfe\n")
    with pytest.raises(UserError, match=r"table in UTF-8\. Received: 'utf-8' codec .*; save it as UTF-8 \(in Excel"):
        open_corpus(table)


def test_files_whose_names_are_not_of_the_corpus_are_counted_in_a_warning(tmp_path):
    write_files(tmp_path, *(f"{name}.wav" for name in RAVDESS_NAMES), "03-02-01-01-01-01-01.wav", "b/noise.ogg")
    with pytest.warns(
        UserWarning, match=r"left out: 2 audio files of .* whose names are not of RAVDESS, such as 03-02"
    ):
        assert len(open_corpus(tmp_path).utterances) == 2
