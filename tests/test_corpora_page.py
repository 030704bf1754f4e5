"""docs/corpora.md is true: its table, and its example of a new corpus."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

import ser_tf
from ser_tf.corpora import synthetic
from ser_tf.corpora.known import KNOWN_CORPORA

PAGE = Path(__file__).parents[1] / "docs" / "corpora.md"


def test_the_table_states_emotions_and_licence_of_every_published_corpus():
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in PAGE.read_text().splitlines() if row[:2] == "| "]
    stated = {row[0].removesuffix(" speech"): (row[3], row[4]) for row in rows[1:]}
    known = [kind for kind in KNOWN_CORPORA if kind.name != synthetic.NAME]
    assert stated == {kind.written: (", ".join(kind.emotions), kind.facts.licence) for kind in known}


def test_a_file_name_of_the_table_is_one_of_its_corpus():
    rows = [row.split("|") for row in PAGE.read_text().splitlines() if row[:2] == "| "][1:]
    written = {kind.name: kind.written for kind in KNOWN_CORPORA}
    for _, corpus, names, *_ in rows:
        for name in re.findall(r"`(.+?)`", names):
            labels = [parsed for kind in KNOWN_CORPORA if (parsed := kind.parse(kind.name_of(Path(f"{name}.wav"))))]
            assert [written[speaker.partition(":")[0]] for speaker, _ in labels] == [corpus.strip().split()[0]]


def test_a_new_corpus_is_one_file(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (named,) = re.findall(r"For recordings such as `(.+?)`", PAGE.read_text())
    package = Path(ser_tf.__file__).parent
    shutil.copytree(package, tmp_path / "ser_tf", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "ser_tf" / "corpora" / "known" / "studio.py").write_text(code)
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    generator = np.random.default_rng(0)
    names = [f"{speaker}_{take}.wav" for speaker in ("anna", "bert", "carl") for take in ("joy_07", "sad_01", "awe_01")]
    for name in (named, *names):
        soundfile.write(recordings / name, generator.integers(-9000, 9000, 4800, dtype=np.int16), 48_000)

    def run(*arguments: str) -> str:
        command, environment = [sys.executable, *arguments], {"PYTHONPATH": str(tmp_path)}
        return subprocess.run(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True).stdout

    audited = run("-m", "ser_tf", "audit", "recordings")
    assert audited.startswith("studio in recordings\n10 utterances in 10 files, 3 speakers, ")
    assert "anna_joy_07: every sample is zero" in audited
    assert "bert_sad_03 ends early." in audited
    opened = (
        "from pathlib import Path; from ser_tf.corpora.folds import load_scheme\n"
        "from ser_tf.corpora.facts import facts_of; from ser_tf.corpora.joined import open_corpora\n"
        "from ser_tf.corpora.demographics import demographics_of; from ser_tf.report.words import corpus_name\n"
        "corpus = open_corpora([Path('recordings')])\n"
        "print(corpus.emotions, corpus.polarities, len(corpus.utterances))\n"
        "print(len(load_scheme('complete', corpus).folds), facts_of('studio').licence, corpus_name('studio'))\n"
        "print(demographics_of(corpus.speakers).sex)\n"
    )
    assert run("-c", opened).splitlines() == [
        "('neutral', 'happy', 'sad', 'awed') ('neutral', 'positive', 'negative', 'positive') 9",
        "3 CC BY 4.0 Studio",
        "{'studio:anna': 'female', 'studio:bert': 'male', 'studio:carl': 'male'}",
    ]
