import csv
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import tensorflow as tf

from ser_tf.audio.recording import sample_hash
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import Config, VadConfig
from ser_tf.errors import UserError
from ser_tf.pretraining import shard_writer as shards
from ser_tf.pretraining import workers
from ser_tf.pretraining.manifest import Shards
from ser_tf.pretraining.plan import Plan
from ser_tf.pretraining.prepare import Prepared, failures, prepare
from ser_tf.pretraining.shard_writer import ShardTask, write_shard

SPEAKERS, TAKES = 5, 8
CONFIG = Config()


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    """Five speakers with eight recordings of 0.6 s of noise each, and one with a single recording."""
    generator = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("corpora") / "voices"
    for number in range(SPEAKERS * TAKES + 1):
        path = root / f"speaker-{number // TAKES}" / f"take-{number % TAKES}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(9600), 16_000)
    return root


@pytest.fixture
def voices_copy(voices, tmp_path) -> Path:
    """A copy that a test may damage."""
    subprocess.run(["cp", "-r", voices, tmp_path / "voices"], check=True)
    return tmp_path / "voices"


@pytest.fixture
def in_process(monkeypatch):
    """This process writes the shards, so that no test of their content waits for TensorFlow in other processes."""
    from ser_tf.pretraining import prepare as module

    def one_after_another(tasks, workers, prologue, report):
        return map(write_shard, tasks)

    monkeypatch.setattr(module, "run_on_cores", one_after_another)


def run(root: Path, out: Path, config: Config = CONFIG, **options) -> Prepared:
    return prepare(root, out, config, report=lambda line: None, **options)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


def records(out: Path) -> list[tf.train.Example]:
    paths = sorted(map(str, out.glob("*.tfrecord")))
    return [tf.train.Example.FromString(record.numpy()) for record in tf.data.TFRecordDataset(paths)]


def text(example: tf.train.Example, feature: str) -> str:
    return example.features.feature[feature].bytes_list.value[0].decode()


def test_a_record_holds_the_speech_of_the_line(in_process, voices, tmp_path):
    prepared = run(voices, tmp_path / "out")
    found = {text(example, "name"): example for example in records(prepared.out)}
    assert len(found) == prepared.utterances == SPEAKERS * TAKES + 1
    for name, example in found.items():
        waveform = read_waveform(voices / f"{name}.wav")
        speech = remove_silence(waveform, VadConfig()).samples
        (content,) = example.features.feature["speech"].bytes_list.value
        np.testing.assert_array_equal(np.frombuffer(content, "<i2"), speech)
        assert text(example, "speaker") == f"voices:{name.partition('/')[0]}"
        assert text(example, "sample_hash") == f"{sample_hash(waveform):016x}"
        (seconds,) = example.features.feature["seconds"].float_list.value
        assert seconds == pytest.approx(len(speech) / 16_000)


def test_the_manifest_names_every_record_at_its_place(in_process, voices, tmp_path):
    prepared = run(voices, tmp_path / "out")
    manifest = pd.read_parquet(prepared.out / "manifest.parquet")
    names = [text(example, "name") for example in records(prepared.out)]
    assert manifest.name.tolist() == names
    assert manifest.place.tolist() == [place for _, group in manifest.groupby("shard") for place in range(len(group))]
    assert manifest.sample_hash.tolist() == [int(text(each, "sample_hash"), 16) for each in records(prepared.out)]
    assert manifest.recorded_seconds.unique() == pytest.approx([0.6])
    assert (manifest.path == manifest.name + ".wav").all()
    assert prepared.speakers == SPEAKERS + 1
    assert prepared.speakers_with_one == 1
    assert prepared.recorded_seconds == pytest.approx(0.6 * (SPEAKERS * TAKES + 1))
    assert prepared.seconds == pytest.approx(manifest.samples.sum() / 16_000)
    assert "41 utterances of 6 speakers (1 with a single one)" in prepared.sentence


def test_a_second_time_nothing_is_written(in_process, voices, tmp_path):
    first = run(voices, tmp_path / "out")
    before = contents(first.out)
    second = run(voices, tmp_path / "out")
    assert (first.written, second.written) == (first.shards, 0)
    assert contents(second.out) == before


def test_a_shard_that_is_missing_or_damaged_is_redone_to_the_same_bytes(in_process, voices, tmp_path):
    out = run(voices, tmp_path / "out").out
    before = contents(out)
    (out / "shard-00003.tfrecord").unlink()
    (out / "shard-00007.json").unlink()
    (out / "shard-00009.tfrecord").write_bytes(before["shard-00009.tfrecord"][:-1])
    (out / "shard-00010.tfrecord").write_bytes(b"")
    (out / "shard-00011.json").write_bytes(before["shard-00011.json"][:40])
    (out / "shard-00012.json").write_text("[]")
    (out / "manifest.parquet").write_bytes(before["manifest.parquet"][:-1])
    (out / "unfinished-elsewhere-1-shard-00003.tfrecord").touch()
    assert run(voices, out).written == 6
    assert contents(out) == before


def test_only_the_shard_of_a_changed_file_is_redone(in_process, voices_copy, tmp_path, rng):
    before = contents(run(voices_copy, tmp_path / "out").out)
    path = voices_copy / "speaker-1" / "take-1.wav"
    size = path.stat().st_size
    soundfile.write(path, 0.1 * rng.standard_normal(9600), 16_000)
    assert path.stat().st_size == size
    prepared = run(voices_copy, tmp_path / "out")
    assert prepared.written == 1
    after = contents(prepared.out)
    changed = {name for name in before if after[name] != before[name]}
    assert len(changed) == 4  # a shard, its page, the manifest, and the manifest's checksum
    assert "manifest.parquet" in changed


def test_a_copy_of_the_corpus_gives_the_same_shards(in_process, voices, voices_copy, tmp_path):
    # Its root and the times of its files are others.
    one, other = (contents(run(root, tmp_path / name).out) for root, name in ((voices, "one"), (voices_copy, "other")))
    shards = [name for name in one if name.endswith(".tfrecord")]
    assert len(shards) == 16
    assert all(one[name] == other[name] for name in shards)


def test_the_plan_does_not_depend_on_the_order_of_the_files(voices, monkeypatch):
    from ser_tf.pretraining import plan

    straight = list(Plan(voices))
    original = plan.find_recordings
    monkeypatch.setattr(plan, "find_recordings", lambda *arguments: reversed(list(original(*arguments))))
    assert list(Plan(voices)) == straight


def test_every_shard_holds_a_random_sample_of_the_speakers(tmp_path):
    # 100 speakers x 40 recordings fill 16 shards of 250; a shard lacks a given speaker with (15/16) ** 40 = 7.6 %,
    # so it holds 92.4 speakers of 100 on average, with a standard deviation of about 2.6. In the order of the folders
    # it would hold 7.
    root = tmp_path / "many"
    for speaker in range(100):
        (root / str(speaker)).mkdir(parents=True)
        for take in range(40):
            (root / str(speaker) / f"{take}.wav").touch()
    dealt = list(Plan(root))
    assert len(dealt) == 16
    assert sum(len(shard.rows) for shard in dealt) == 4000
    assert all(len({row.speaker for row in shard.rows}) > 80 for shard in dealt)
    # Nor do neighbours share their speaker more often than by chance: 1 in 100.
    pairs = [(a, b) for shard in dealt for a, b in zip(shard.rows, shard.rows[1:], strict=False)]
    assert sum(a.speaker == b.speaker for a, b in pairs) < 0.02 * len(pairs)


def test_ten_thousand_files_in_one_folder_are_40_shards(tmp_path):
    root = tmp_path / "choir"
    files = ["bert/0.flac", *(f"anna/{number:04d}.flac" for number in range(10_000))]
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    plan = Plan(root)
    assert (plan.recordings, plan.speakers, plan.shards) == (10_001, 2, 40)  # 10,001 / 256 = 39.1
    assert sorted(row.path for shard in plan for row in shard.rows) == sorted(files)


def test_planning_takes_no_more_memory_for_more_recordings(monkeypatch):
    import tracemalloc

    from ser_tf.corpora.speakers import SpeakerRecording
    from ser_tf.pretraining import plan

    def peak(recordings: int) -> int:
        def endless(root):
            for number in range(recordings):
                path = root / f"speaker-{number % 50}" / f"{number:07d}.wav"
                yield SpeakerRecording(path, f"{number:07d}", f"voices:{number % 50}", False)

        monkeypatch.setattr(plan, "find_recordings", endless)
        tracemalloc.start()
        for _ in Plan(Path("/nowhere")):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    monkeypatch.setattr(plan, "RECORDINGS_PER_SHARD", 16)
    # A recording takes some hundred bytes: 1500 more of them would be at least 300,000.
    assert peak(2000) < peak(500) + 50_000


def test_copies_in_several_formats_count_once(tmp_path):
    root = tmp_path / "voices"
    for file in ("a/x.m4a", "a/x.wav", "a/x.flac", "b/y.mp3"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    plan = Plan(root)
    assert sorted(row.path for shard in plan for row in shard.rows) == ["a/x.wav", "b/y.mp3"]
    assert not plan.has_m4a


def test_recordings_of_one_name_that_differ_are_listed(tmp_path):
    root = tmp_path / "ravdess"
    one, two = "03-01-05-01-02-01-12.wav", "03-01-05-01-02-01-13.wav"
    files = {f"b/{one}": b"b", f"c/{one}": b"c", f"d/{one}": b"b", f"a/b/{one}": b"d", f"a/{two}": b"e"}
    for file, content in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(content)
    plan = Plan(root)
    # The least nested, then the first by path is used; d/ holds its copy, and a/ and c/ another recording.
    assert plan.recordings == 2
    assert sorted(row.path for shard in plan for row in shard.rows) == [f"a/{two}", f"b/{one}"]
    reason = f"a different recording of this name is used, b/{one}; rename or remove one of them"
    assert list(plan.problems()) == [(f"a/b/{one}", reason), (f"c/{one}", reason)]


def test_what_fails_is_listed_and_the_others_go_on(in_process, voices_copy, tmp_path):
    pytest.importorskip("av")
    (voices_copy / "speaker-2" / "take-0.wav").write_bytes(b"")
    (voices_copy / "speaker-2" / "bad.m4a").write_bytes(b"\0\0\0\x20ftypM4A no more than a head")
    (voices_copy / "alone.wav").touch()
    prepared = run(voices_copy, tmp_path / "out")
    assert (prepared.utterances, prepared.failed) == (SPEAKERS * TAKES, 3)
    with (prepared.out / "failed.csv").open() as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert reasons.keys() == {"alone.wav", "speaker-2/take-0.wav", "speaker-2/bad.m4a"}
    assert "expected a folder per speaker" in reasons["alone.wav"]
    assert "zero bytes" in reasons["speaker-2/take-0.wav"]
    assert "damaged or truncated" in reasons["speaker-2/bad.m4a"]
    assert failures(prepared).startswith("3 of 43 recordings could not be used; ")
    (voices_copy / "alone.wav").unlink()
    (voices_copy / "speaker-2" / "bad.m4a").unlink()
    soundfile.write(voices_copy / "speaker-2" / "take-0.wav", np.random.default_rng(1).uniform(size=9600), 16_000)
    assert not run(voices_copy, tmp_path / "out").failed
    assert not (prepared.out / "failed.csv").exists()


def test_a_recording_that_stops_its_decoder_is_listed_and_the_others_go_on(in_process, voices, tmp_path, monkeypatch):
    from ser_tf.pretraining import shard_writer as shards

    def speech_of(content, name, *arguments, original=shards.speech_of):
        if name.endswith("speaker-2/take-0.wav"):
            raise KeyError("codec")
        return original(content, name, *arguments)

    monkeypatch.setattr(shards, "speech_of", speech_of)
    prepared = run(voices, tmp_path / "out")
    assert (prepared.utterances, prepared.failed) == (SPEAKERS * TAKES, 1)
    with (prepared.out / "failed.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == "speaker-2/take-0.wav"
    assert row["reason"].endswith("take-0.wav: stopped its decoder (KeyError('codec')); move it out of the folder")


def test_a_stranger_among_recordings_of_a_known_corpus_is_not_given_a_speaker(in_process, tmp_path, rng):
    root = tmp_path / "mixed"
    for file in ("Actor_01/03-01-05-01-02-01-01.wav", "Actor_02/03-01-05-01-02-01-02.wav", "Actor_02/copy.wav"):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / file, 0.1 * rng.standard_normal(9600), 16_000)
    prepared = run(root, tmp_path / "out")
    assert (prepared.utterances, prepared.failed) == (2, 1)
    assert sorted(pd.read_parquet(prepared.out / "manifest.parquet").speaker) == ["ravdess:01", "ravdess:02"]
    assert 'Actor_02/copy.wav,"not named like the recordings of known' in (prepared.out / "failed.csv").read_text()


def test_m4a_without_its_decoder_is_said_before_anything_is_done(voices_copy, tmp_path, monkeypatch):
    (voices_copy / "speaker-1" / "new.m4a").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"m4a \(AAC\) needs PyAV; install the extra: pip install -e '.\[m4a\]'"):
        run(voices_copy, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pyarrow_that_is_missing_is_said_before_anything_is_done(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"^the manifest of shards needs pyarrow; install the extra: .*\[pretraining\]"):
        prepare(voices, tmp_path / "out", Config(), report=print)
    assert not (tmp_path / "out").exists()


def test_ray_that_is_missing_is_said(voices, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"engine ray: needs Ray on every node; install the extra: pip install -e '.\[ray\]'"
    ):
        run(voices, tmp_path / "out", engine="ray")


@pytest.mark.parametrize(("files", "received"), [((), "none"), (("a/x.wav", "a/y.wav"), "voices:a only")])
def test_fewer_than_two_speakers_are_refused(files, received, tmp_path):
    root = tmp_path / "voices"
    root.mkdir()
    for file in files:
        (root / file).parent.mkdir(exist_ok=True)
        (root / file).touch()
    with pytest.raises(UserError, match=rf"of at least two speakers.*Received: {received}; check"):
        run(root, tmp_path / "out")


def test_no_workers_are_refused(voices, tmp_path):
    with pytest.raises(UserError, match=r"^workers: expected at least 1\. Received: workers=0$"):
        run(voices, tmp_path / "out", workers=0)


def test_another_configuration_or_corpus_in_the_folder_is_refused(in_process, voices, voices_copy, tmp_path):
    out = run(voices_copy, tmp_path / "out").out
    before = contents(out)
    with pytest.raises(UserError, match=rf"{out}: these shards .* with vad.mode 2, and this run has 3; set the"):
        run(voices_copy, out, Config(vad=VadConfig(mode=3)))
    with pytest.raises(UserError, match=rf"holds shards of a different corpus \({voices_copy}, now {voices}\); choose"):
        run(voices, out)
    for path in voices_copy.glob("*/take-[1-7].wav"):
        path.unlink()
    with pytest.raises(UserError, match=r"different recordings, in another number of shards \(16, now 6\); choose"):
        run(voices_copy, out)
    assert contents(out) == before


def test_shards_of_an_earlier_version_are_refused(in_process, voices, tmp_path):
    out = run(voices, tmp_path / "out").out
    description = json.loads((out / "preparation.json").read_text())
    description["corpus"] = Path(description.pop("root")).name  # as it was before it named the root
    (out / "preparation.json").write_text(json.dumps(description))
    refused = rf"^{out}: prepared by another version of ser-tf; prepare the corpus into another folder, or remove this"
    with pytest.raises(UserError, match=refused):
        run(voices, out)
    with pytest.raises(UserError, match=refused):
        Shards.open([out], CONFIG)


def test_a_folder_of_something_else_is_refused(voices, tmp_path):
    (tmp_path / "letter").touch()
    with pytest.raises(UserError, match="expected an empty folder, or one that ser-tf prepare began; choose another"):
        run(voices, tmp_path)
    with pytest.raises(UserError, match="expected an empty folder"):
        run(voices, tmp_path / "letter")


def test_two_at_once_are_refused(in_process, voices, tmp_path, monkeypatch):
    from ser_tf.pretraining import prepare as module

    def another(tasks, workers, prologue, report):
        with pytest.raises(UserError, match="another ser-tf command is at work in it; wait for it"):
            run(voices, tmp_path / "out")
        return map(write_shard, tasks)

    monkeypatch.setattr(module, "run_on_cores", another)
    assert run(voices, tmp_path / "out").written == 16


def test_finished_shards_open_and_others_do_not(in_process, voices, tmp_path):
    out = run(voices, tmp_path / "out").out
    opened = Shards.open([out], CONFIG)
    assert opened.counts == {f"voices:speaker-{number}": TAKES for number in range(SPEAKERS)} | {"voices:speaker-5": 1}
    assert len(np.unique(opened.sample_hashes())) == SPEAKERS * TAKES + 1
    assert len(opened.sample_hashes(["voices:speaker-0"])) == TAKES
    with pytest.raises(UserError, match=r"prepared with vad.mode 2, and this run has 1"):
        Shards.open([out], Config(vad=VadConfig(mode=1)))
    with pytest.raises(UserError, match="expected each folder of shards once"):
        Shards.open([out, out], CONFIG)
    size = (out / "shard-00009.tfrecord").stat().st_size
    os.truncate(out / "shard-00009.tfrecord", size - 1)
    with pytest.raises(
        UserError, match=rf"shard-00009.tfrecord: expected {size:,} bytes. Received: {size - 1:,}; start the same"
    ):
        Shards.open([out], CONFIG)
    (out / "shard-00002.tfrecord").unlink()
    with pytest.raises(UserError, match=r"shard-00002.tfrecord: missing; start the same ser-tf prepare command again"):
        Shards.open([out], CONFIG)
    os.truncate(out / "manifest.parquet", 100)
    with pytest.raises(UserError, match=r"manifest.parquet: damaged; start the same ser-tf prepare command again and"):
        Shards.open([out], CONFIG)
    (out / "manifest.parquet").unlink()
    with pytest.raises(UserError, match="not finished; start the same ser-tf prepare command again and it continues"):
        Shards.open([out], CONFIG)
    with pytest.raises(UserError, match=r"preparation.json: expected the description of shards; give a folder made by"):
        Shards.open([voices], CONFIG)


def test_speakers_of_equal_names_from_two_roots_are_refused(in_process, tmp_path, rng):
    def prepared(root: Path) -> Path:
        return run(root, tmp_path / "-".join(["out", *root.relative_to(tmp_path).parts])).out

    folders = ("A/wav/01", "B/wav/01", "B/wav/02", "A/wav/02", "C/wav/03", "C/wav/04", "D/Actor_01", "D/Actor_02")
    for folder in folders:
        name = f"03-01-05-01-02-01-{folder[-2:]}.wav" if folder.startswith("D") else "take.wav"
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / name, 0.1 * rng.standard_normal(9600), 16_000)
    for folder in ("A", "B"):
        table = "path,speaker,emotion\nwav/01/take.wav,1,sad\nwav/02/take.wav,2,happy\n"
        (tmp_path / folder / "table.csv").write_text(table)
    subprocess.run(["cp", "-r", tmp_path / "D", tmp_path / "E"], check=True)

    a, b, c = (prepared(tmp_path / name / "wav") for name in "ABC")
    with pytest.raises(
        UserError,
        match=rf"{b}: expected different people under different names. Received: wav:01 from {tmp_path}/B/wav and from "
        rf"{tmp_path}/A/wav; if they are two people, rename one root",
    ):
        Shards.open([a, c, b], CONFIG)
    assert len(Shards.open([b, c], CONFIG).counts) == 4  # all names of wav differ
    tables = [prepared(tmp_path / name / "table.csv") for name in "AB"]
    with pytest.raises(
        UserError, match=rf"Received: table:1 from {tmp_path}/B/table.csv and from .*in a table: its sp"
    ):
        Shards.open(tables, CONFIG)
    # Two copies of RAVDESS's actors are the same actors, wherever they are.
    assert Shards.open([prepared(tmp_path / name) for name in "DE"], CONFIG).counts == {
        "ravdess:01": 2,
        "ravdess:02": 2,
    }


def test_a_full_disk_is_said_and_leaves_nothing_unfinished(voices, tmp_path):
    # A limit on the size of files stands for the disk: writing beyond it fails in the same place.
    (shard, *_) = Plan(voices)
    out = tmp_path / "out"
    out.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(UserError, match=r"shard-00000.tfrecord: cannot be written \(File too large\); make room"):
            write_shard(ShardTask(shard, voices, out, CONFIG))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(out.iterdir())


def test_a_page_that_cannot_be_written_is_said(voices, tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    (shard, *_) = Plan(voices)
    with pytest.raises(UserError, match=r"00000.tfrecord: cannot be written \(No space left on device\); make"):
        write_shard(ShardTask(shard, voices, tmp_path, CONFIG))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 300 KB: the 41 recordings are 787 KB (9600 samples of two bytes each)."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_disk_that_fills_up_is_said_and_a_larger_one_goes_on(in_process, voices, small_disk, tmp_path):
    out = small_disk / "out"
    with pytest.raises(UserError, match=r"shard-000\d\d.tfrecord: cannot be written \(No space left on device\); make"):
        run(voices, out)
    assert not list(out.glob("unfinished-*"))
    stood = len(list(out.glob("*.tfrecord")))
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert run(voices, out).written == 16 - stood < 16
    assert contents(out) == contents(run(voices, tmp_path / "undisturbed").out)

    (out / "manifest.parquet").unlink()
    with suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with pytest.raises(UserError, match=r"manifest.parquet: cannot be written \(No space left on device\); make room"):
        run(voices, out)
    (small_disk / "filler").unlink()
    assert run(voices, out).written == 0
    assert contents(out) == contents(tmp_path / "undisturbed")


def halting() -> None:
    """Prologue of a worker that waits for the end of the command after two shards."""
    parent, begun = os.getppid(), []

    def write(task, begin):
        begun.append(task)
        while len(begun) == 3 and os.getppid() == parent:
            time.sleep(0.02)
        return write_shard(task, begin)

    workers.write_shard = write


def dying_once(marker: Path) -> None:
    """Prologue of a worker: the first process to reach its second recording dies there."""
    began = []

    def write(task, begin):
        def begin_or_die(path):
            began.append(path)
            begin(path)
            if len(began) == 2 and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return write_shard(task, begin_or_die)

    workers.write_shard = write


def dying_at(name: str) -> None:
    """Prologue of a worker: a recording of that name kills it."""

    def write(task, begin):
        for row in task.shard.rows:
            if row.path.endswith(name):
                begin(row.path)
                os.abort()
        return write_shard(task, begin)

    workers.write_shard = write


def test_a_worker_that_dies_is_named_and_its_shard_redone(voices, tmp_path):
    lines = []
    prologue = partial(dying_once, tmp_path / "died")
    out = prepare(voices, tmp_path / "out", CONFIG, workers=2, prologue=prologue, report=lines.append).out
    (complaint,) = (line for line in lines if "died" in line)
    assert re.fullmatch(
        r"worker [12] died \(signal 9, Killed\) at speaker-\d/take-\d.wav; shard-000\d\d.tfrecord is redone", complaint
    )
    manifest = pd.read_parquet(out / "manifest.parquet")
    assert sorted(manifest.path) == sorted(str(path.relative_to(voices)) for path in voices.rglob("*.wav"))
    assert not list(out.glob("unfinished-*"))


def test_a_recording_that_kills_every_worker_is_named(voices, tmp_path):
    with pytest.raises(UserError, match=r"tfrecord: 3 workers died over it, the last one at speaker-5/take-0"):
        run(voices, tmp_path / "out", workers=1, prologue=partial(dying_at, "speaker-5/take-0.wav"))
    assert not list((tmp_path / "out").glob("unfinished-*"))


COMMAND = """
import signal
from ser_tf.cli import preparation
from ser_tf.cli.door import main
from test_preparation import halting
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what runs in the background
preparation.import_tensorflow = halting
main()
"""


def command(root: Path, out: Path) -> subprocess.Popen:
    """`ser-tf prepare` in its own process group, with two workers that halt after four shards."""
    arguments = [sys.executable, "-c", COMMAND, "prepare", "--corpus", root, "--out", out, "--workers", "2"]
    tests = Path(__file__).parent
    path = os.pathsep.join([str(tests.parent), str(tests)])
    return subprocess.Popen(
        arguments,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def when_four_shards_are_finished(out: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 200
    while len(list(out.glob("shard-*.tfrecord"))) < 4:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def test_ctrl_c_and_a_kill_leave_what_goes_on_to_the_same_bytes(in_process, voices, tmp_path):
    expected = contents(run(voices, tmp_path / "undisturbed").out)
    out = tmp_path / "out"
    interrupted = command(voices, out)
    when_four_shards_are_finished(out, interrupted)
    os.killpg(interrupted.pid, signal.SIGINT)  # as a terminal does: to all processes
    _, complaints = interrupted.communicate()
    assert interrupted.returncode == 130, complaints
    assert complaints.splitlines()[-1].startswith(
        "ser-tf: interrupted; started again, it goes on from its finished shards"
    )
    assert "Traceback" not in complaints, complaints
    stood = sorted(path.name for path in out.iterdir())
    assert len([name for name in stood if name.endswith("tfrecord")]) == 4
    assert not [name for name in stood if name.startswith("unfinished")]

    out = tmp_path / "killed"
    killed = command(voices, out)
    when_four_shards_are_finished(out, killed)
    killed.kill()
    killed.communicate()
    for folder in (tmp_path / "out", out):
        prepared = run(voices, folder)
        assert prepared.written == 16 - 4
        assert contents(folder) == expected


def without(key: str):
    return lambda page: page.pop(key)


PAGES = {
    "another speaker": lambda page: page["utterances"][0].update(speaker="voices:speaker-9"),
    "another length": lambda page: page["utterances"][0].update(samples=1),
    "no utterances": without("utterances"),
    "no failures": without("failed"),
    "no checksum, as older ones": without("checksum"),
    "a failure that is a number": lambda page: page.update(failed=[7]),
    "utterances that are text": lambda page: page.update(utterances="many"),
    "an utterance without speaker": lambda page: page["utterances"][0].pop("speaker"),
    "a speaker that is a number": lambda page: page["utterances"][0].update(speaker=5),
    "a size that is text": lambda page: page.update(bytes="1"),
}


@pytest.mark.parametrize("damage", PAGES)
def test_a_page_that_is_not_what_was_written_is_redone(in_process, voices, tmp_path, damage):
    out = run(voices, tmp_path / "out").out
    before = contents(out)
    path = next(path for path in sorted(out.glob("shard-*.json")) if json.loads(path.read_text())["utterances"])
    page = json.loads(path.read_text())
    PAGES[damage](page)
    path.write_text(json.dumps(page))
    assert run(voices, out).written == 1
    assert contents(out) == before


def test_a_page_of_another_shape_is_redone_though_its_checksum_is_right(in_process, voices, tmp_path):
    out = run(voices, tmp_path / "out").out
    before = contents(out)
    path = next(path for path in sorted(out.glob("shard-*.json")) if json.loads(path.read_text())["utterances"])
    page = json.loads(path.read_text())
    del page["checksum"], page["utterances"][0]["speaker"]
    path.write_text(json.dumps(page | {"checksum": shards._checksum(page)}))
    assert run(voices, out).written == 1
    assert contents(out) == before


def test_a_flipped_bit_anywhere_in_a_manifest_is_found_and_mended(in_process, voices, tmp_path, rng):
    out = run(voices, tmp_path / "out").out
    path = out / "manifest.parquet"
    whole = path.read_bytes()
    for place in rng.integers(len(whole), size=40):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"manifest.parquet: damaged; start the same ser-tf prepare command again"):
            Shards.open([out], CONFIG)
    assert run(voices, out).written == 0
    assert path.read_bytes() == whole
    Shards.open([out], CONFIG)


def test_an_older_manifest_without_a_checksum_is_read_or_refused_in_one_line(in_process, voices, tmp_path, rng):
    out = run(voices, tmp_path / "out").out
    (out / "manifest.parquet.sha256").unlink()
    path = out / "manifest.parquet"
    whole = path.read_bytes()
    assert len(list(Shards.open([out], CONFIG).utterances())) == SPEAKERS * TAKES + 1
    for place in rng.integers(len(whole), size=200):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            opened = Shards.open([out], CONFIG)
            list(opened.utterances())
            opened.sample_hashes(list(opened.counts)[:1])
        except UserError as error:
            assert "start the same ser-tf prepare command again" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"configuration": []}, "configuration: expected a mapping of names"),
        ({"configuration": {"vad": 1}}, "configuration: expected a mapping. Received: 1"),
        ({"shards": "16"}, "shards: expected a whole number. Received: '16'"),
        ({"root": 5}, "root: expected text. Received: 5"),
    ],
)
def test_a_description_of_another_shape_is_refused(in_process, voices, tmp_path, change, message):
    out = run(voices, tmp_path / "out").out
    path = out / "preparation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    for opens in (lambda: run(voices, out), lambda: Shards.open([out], CONFIG)):
        with pytest.raises(UserError, match=re.escape(f"{path}: {message}")):
            opens()
