import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import encoded, muxed, sine

from ser_tf.audio.decoding import BLOCK_VALUES
from ser_tf.audio.waveform import read_waveform
from ser_tf.corpora.audit import IdenticalGroup, Problem, audit
from ser_tf.errors import UserError

RATE_HZ = 48_000
NAMES = ("03-01-01-01-01-01-01", "03-01-02-01-01-01-01", "03-01-03-01-01-01-02", "03-01-04-01-01-01-02")


def noise(rng: np.random.Generator, samples: int = 4800) -> np.ndarray:
    return rng.integers(-16_000, 16_000, samples, dtype=np.int16)


def write(root: Path, name: str, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


@pytest.fixture
def healthy(tmp_path, rng) -> Path:
    """Four different RAVDESS utterances of two actors, in order."""
    for name in NAMES:
        write(tmp_path, f"{name}.wav", noise(rng))
    return tmp_path


FINDINGS = (
    "unpublished",
    "foreign",
    "unknown_emotions",
    "copies",
    "differing_copies",
    "lfs_pointers",
    "undecodable",
    "truncated",
    "empty",
    "silent",
    "not_finite",
    "clipped",
    "stereo",
    "identical",
    "excluded",
)


def findings(report) -> dict[str, tuple]:
    """What was found, without the empty lists."""
    return {name: getattr(report, name) for name in FINDINGS if getattr(report, name)}


def test_healthy_files(healthy):
    report = audit(healthy)
    assert findings(report) == {}
    assert (report.corpus, report.root, report.files, report.utterances) == ("ravdess", str(healthy), 4, 4)
    assert report.seconds == pytest.approx(4 * 4800 / RATE_HZ)
    assert (report.rates, report.usual_rate_hz, report.odd_rates) == ({"48000": 4}, 48_000, {})
    assert report.counts["ravdess:02"]["happy"] == 1
    assert report.counts["ravdess:02"]["calm"] == 0
    assert report.expected["ravdess:24"] == {
        **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 8),
        "neutral": 4,
    }
    assert len(report.missing) == 1440 - 4
    assert not set(report.missing) & set(NAMES)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12\n", "lfs_pointers"),
        (b"", "empty"),
    ],
)
def test_files_without_audio(healthy, content, expected):
    (healthy / f"{NAMES[0]}.wav").write_bytes(content)
    assert findings(audit(healthy)) == {expected: (f"{NAMES[0]}.wav",)}


@pytest.mark.parametrize(
    ("samples", "subtype", "expected"),
    [
        (np.zeros((0, 1)), "PCM_16", "empty"),
        (np.zeros(4800), "PCM_16", "silent"),
        (np.full((4800, 2), 0.25), "PCM_16", "stereo"),
        (np.full(10, np.nan), "FLOAT", "not_finite"),
        # one infinite sample; clipping needs three in a row
        (np.array([0.1, np.inf, 0.1]), "FLOAT", "not_finite"),
    ],
    ids=["no samples", "zeros", "stereo", "nan", "inf"],
)
def test_odd_samples(healthy, samples, subtype, expected):
    write(healthy, f"{NAMES[0]}.wav", samples, subtype=subtype)
    assert findings(audit(healthy)) == {expected: (f"{NAMES[0]}.wav",)}


@pytest.mark.parametrize(
    ("samples", "subtype", "is_clipped"),
    [
        ([0, 32767, 32767, 32767, 0], "PCM_16", True),
        ([0, -32768, -32768, -32768], "PCM_16", True),
        ([32767, 32767, 0, 32767], "PCM_16", False),
        ([32767, -32768, 32767, -32768], "PCM_16", False),  # both ends, never three at one
        ([32766, 32766, 32766], "PCM_16", False),
        ([127 * 256, 127 * 256, 127 * 256], "PCM_U8", True),
        ([127 * 256, 127 * 256, 127 * 256], "PCM_16", False),
        # the run crosses the border of the blocks in which a file is read
        ([0] * (BLOCK_VALUES - 1) + [32767] * 3, "PCM_16", True),
        ([0] * (BLOCK_VALUES - 2) + [32767] * 3, "PCM_16", True),
        ([[32767, 0], [32767, 0], [0, 32767]], "PCM_16", False),  # three in a row, yet in two channels
        ([[0, 32767], [0, 32767], [0, 32767]], "PCM_16", True),
    ],
)
def test_clipping_is_three_samples_in_a_row_at_one_end(healthy, samples, subtype, is_clipped):
    write(healthy, f"{NAMES[0]}.wav", np.array(samples, np.int16), subtype=subtype)
    assert audit(healthy).clipped == ((f"{NAMES[0]}.wav",) if is_clipped else ())


def test_undecodable_files_are_named_with_the_reason(healthy):
    (healthy / f"{NAMES[0]}.wav").write_bytes(bytes(range(128, 256)))
    (healthy / f"{NAMES[1]}.wav").unlink()
    (healthy / f"{NAMES[1]}.wav").symlink_to("nowhere")
    undecodable = {problem.path: problem.reason for problem in audit(healthy).undecodable}
    assert undecodable.keys() == {f"{NAMES[0]}.wav", f"{NAMES[1]}.wav"}
    assert "a file of another format" in undecodable[f"{NAMES[0]}.wav"]
    assert "there is no such file" in undecodable[f"{NAMES[1]}.wav"]


def test_a_cut_wav_is_truncated_and_a_cut_flac_undecodable(healthy, rng):
    wav = healthy / f"{NAMES[0]}.wav"
    wav.write_bytes(wav.read_bytes()[:5000])
    (healthy / f"{NAMES[1]}.wav").unlink()
    flac = write(healthy, f"{NAMES[1]}.flac", noise(rng, 48_000))
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    report = audit(healthy)
    # 44 bytes of header, and two bytes a sample
    reason = f"truncated: it stops after {(5000 - 44) // 2} samples, before its end; fetch it again"
    assert report.truncated == (Problem(f"{NAMES[0]}.wav", reason),)
    assert [problem.path for problem in report.undecodable] == [f"{NAMES[1]}.flac"]


def test_a_cut_mp3_is_truncated(healthy, rng):
    mp3 = healthy / f"{NAMES[0]}.mp3"
    (healthy / f"{NAMES[0]}.wav").unlink()
    soundfile.write(mp3, noise(rng, 48_000), RATE_HZ)
    mp3.write_bytes(mp3.read_bytes()[: mp3.stat().st_size // 2])
    (problem,) = audit(healthy).truncated
    assert problem.path == mp3.name
    assert "MP3 frames" in problem.reason


def test_m4a_is_read_like_the_others(healthy):
    from test_m4a import tone, write_m4a  # skips without PyAV

    m4a = healthy / f"{NAMES[0]}.m4a"
    (healthy / f"{NAMES[0]}.wav").unlink()
    content = write_m4a(m4a, np.stack([tone(RATE_HZ, 0.5)] * 2), RATE_HZ)
    report = audit(healthy)
    assert findings(report) == {"stereo": (m4a.name,)}
    assert report.files == 4
    assert report.seconds == pytest.approx(3 * 0.1 + 0.5, abs=1024 / RATE_HZ)  # the last block of AAC may stay filled
    m4a.write_bytes(content[: len(content) // 2])
    (problem,) = audit(healthy).undecodable
    assert problem.path == m4a.name
    assert problem.reason.startswith("damaged or truncated: ")


def test_m4a_without_its_decoder_is_undecodable(healthy, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    (healthy / f"{NAMES[0]}.m4a").write_bytes(b"\0\0\0\x20ftypM4A ")
    (problem,) = audit(healthy).undecodable
    assert problem == Problem(f"{NAMES[0]}.m4a", "m4a (AAC) needs PyAV; install the extra: pip install -e '.[m4a]'")


FORMATS = {
    "wav": lambda samples: encoded(samples),
    "flac": lambda samples: encoded(samples, file_format="FLAC"),
    "ogg": lambda samples: encoded(samples, file_format="OGG", subtype="VORBIS"),
    "mp3": lambda samples: encoded(samples, file_format="MP3", subtype="MPEG_LAYER_III"),
    "m4a": lambda samples: muxed(samples, 16_000, "ipod", "aac"),
}


@pytest.mark.parametrize("part", [1.0, 0.9, 0.6])
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_audit_decodes_like_training_and_prediction(healthy, rng, suffix, part):
    content = FORMATS[suffix](rng.uniform(-0.5, 0.5, 48_000))
    path = healthy / f"{NAMES[0]}.{suffix}"
    (healthy / f"{NAMES[0]}.wav").unlink()
    path.write_bytes(content[: int(part * len(content))])
    report = audit(healthy)
    if part == 1:
        assert findings(report) == {}
        assert report.seconds == pytest.approx(len(read_waveform(path)) / 16_000 + 3 * 0.1)
        return
    (problem,) = report.truncated + report.undecodable
    with pytest.raises(UserError) as refusal:
        read_waveform(path)
    assert str(refusal.value) == f"{path}: {problem.reason}"


def test_a_call_and_an_m4a_without_samples_are_read_like_the_others(healthy):
    (healthy / f"{NAMES[0]}.wav").write_bytes(encoded(sine(8_000), 8_000, subtype="GSM610"))
    (healthy / f"{NAMES[1]}.wav").unlink()
    (healthy / f"{NAMES[1]}.m4a").write_bytes(muxed(np.zeros(0), 16_000, "ipod", "aac"))
    report = audit(healthy)
    assert report.rates["8000"] == 1
    assert f"{NAMES[1]}.m4a" in report.empty + tuple(problem.path for problem in report.undecodable)


def test_a_pipe_is_undecodable_and_does_not_block(healthy):
    (healthy / f"{NAMES[0]}.wav").unlink()
    os.mkfifo(healthy / f"{NAMES[0]}.wav")
    (problem,) = audit(healthy).undecodable
    assert "a device or a pipe" in problem.reason


def test_a_streamed_wav_is_not_truncated(healthy):
    """A writer to a pipe cannot know the size and leaves the largest number in its place."""
    wav = healthy / f"{NAMES[0]}.wav"
    content = bytearray(wav.read_bytes())
    content[4:8] = b"\xff" * 4
    wav.write_bytes(content)
    assert findings(audit(healthy)) == {}


def test_odd_rates_are_grouped(healthy, rng):
    write(healthy, f"{NAMES[0]}.wav", noise(rng), rate_hz=16_000)
    write(healthy, f"{NAMES[1]}.wav", noise(rng), rate_hz=44_100)
    report = audit(healthy)
    assert report.rates == {"16000": 1, "44100": 1, "48000": 2}
    assert report.odd_rates == {"16000": [f"{NAMES[0]}.wav"], "44100": [f"{NAMES[1]}.wav"]}


def test_identical_recordings(tmp_path, rng):
    one, other, third = noise(rng), noise(rng), noise(rng)
    write(tmp_path, "1001_DFA_ANG_XX.wav", one)
    write(tmp_path, "1001_DFA_SAD_XX.wav", one)  # same bytes, another emotion
    write(tmp_path, "1002_IEO_HAP_HI.wav", other)
    write(tmp_path, "1002_IEO_HAP_LO.flac", other)  # lossless: same samples, same label
    write(tmp_path, "1003_DFA_SAD_XX.wav", third)
    write(tmp_path, "1004_DFA_SAD_XX.wav", third)  # same emotion, another speaker
    write(tmp_path, "1005_DFA_SAD_XX.wav", one, rate_hz=8_000)  # the same numbers at another rate are another sound
    assert audit(tmp_path).identical == (
        IdenticalGroup(
            ("1001_DFA_ANG_XX", "1001_DFA_SAD_XX"), "bytes", ("crema_d:1001 angry", "crema_d:1001 sad"), True
        ),
        IdenticalGroup(
            ("1002_IEO_HAP_HI", "1002_IEO_HAP_LO"), "samples", ("crema_d:1002 happy", "crema_d:1002 happy"), False
        ),
        IdenticalGroup(("1003_DFA_SAD_XX", "1004_DFA_SAD_XX"), "bytes", ("crema_d:1003 sad", "crema_d:1004 sad"), True),
    )


def test_empty_files_are_not_identical_recordings(healthy):
    for name in NAMES:
        (healthy / f"{name}.wav").write_bytes(b"")
    report = audit(healthy)
    assert (len(report.empty), report.identical, report.rates, report.usual_rate_hz) == (4, (), {}, 48_000)


def test_copies(healthy, rng):
    same = (healthy / f"{NAMES[0]}.wav").read_bytes()
    for folder, content in (("copy", same), ("other", same[:-2] + b"\x01\x01")):
        (healthy / folder).mkdir()
        (healthy / folder / f"{NAMES[0]}.wav").write_bytes(content)
    (healthy / "copy" / f"{NAMES[1]}.wav").write_bytes((healthy / f"{NAMES[1]}.wav").read_bytes())
    soundfile.write(healthy / f"{NAMES[2]}.mp3", noise(rng), RATE_HZ)  # lossy: it differs by nature
    report = audit(healthy)
    assert (report.files, report.utterances) == (8, 4)
    assert report.counts["ravdess:01"]["neutral"] == 1
    assert findings(report) == {
        "copies": (
            f"{NAMES[2]}.mp3",
            f"copy/{NAMES[0]}.wav",
            f"copy/{NAMES[1]}.wav",
            f"other/{NAMES[0]}.wav",
        ),
        "differing_copies": ((f"{NAMES[0]}.wav", f"copy/{NAMES[0]}.wav", f"other/{NAMES[0]}.wav"),),
    }


def test_names(healthy):
    for name in ("03-02-01-01-01-01-01.wav", "b/noise.OGG", "03-01-09-01-01-01-01.wav", "notes.txt"):
        (healthy / name).parent.mkdir(exist_ok=True)
        (healthy / name).touch()
    (healthy / f"{NAMES[0]}.wav").rename(healthy / "03-01-01-01-01-01-77.wav")
    assert findings(audit(healthy)) == {
        "foreign": ("03-02-01-01-01-01-01.wav", "b/noise.OGG"),
        "unknown_emotions": (
            Problem("03-01-09-01-01-01-01.wav", "expected an emotion code from 01 to 08. Received: 09"),
        ),
        "unpublished": ("03-01-01-01-01-01-77",),
    }


def test_one_emotion_is_enough_for_an_audit(tmp_path, rng):
    write(tmp_path, f"{NAMES[0]}.wav", noise(rng))
    assert audit(tmp_path).utterances == 1


def test_a_table(tmp_path, rng):
    write(tmp_path, "sub/a.wav", noise(rng), rate_hz=8_000)
    write(tmp_path, "sub/b.wav", noise(rng), rate_hz=8_000)
    write(tmp_path, "sub/c.wav", noise(rng), rate_hz=16_000)
    table = tmp_path / "table.csv"
    table.write_text("path,speaker,emotion\nsub/a.wav,anna,proud\nsub/b.wav,bert,sad\nsub/c.wav,bert,sad\n")
    report = audit(table)
    assert report.counts == {"table:anna": {"sad": 0, "proud": 1}, "table:bert": {"sad": 2, "proud": 0}}
    assert (report.expected, report.missing, report.unpublished) == ({}, (), ())
    # nothing is published, so the most frequent rate is the usual one
    assert (report.usual_rate_hz, report.odd_rates) == (8_000, {"16000": ["sub/c.wav"]})


def test_a_recording_with_two_emotions_is_left_out_by_default(tmp_path, rng):
    samples = rng.uniform(-0.5, 0.5, (3, 8000))
    for name, row in {"a": 0, "again": 0, "b": 1, "b again": 1, "c": 2}.items():
        soundfile.write(tmp_path / f"{name}.wav", samples[row], 16_000)
    table = tmp_path / "table.csv"
    table.write_text(
        "path,speaker,emotion\na.wav,anna,sad\nagain.wav,anna,happy\n"
        "b.wav,bert,sad\nb again.wav,bert,sad\nc.wav,carl,sad\n"
    )
    report = audit(table)
    assert [(exclusion.name, exclusion.reason) for exclusion in report.excluded] == [
        (name, "one recording under two emotions: a is sad and again is happy") for name in ("a", "again")
    ]
    assert "a (left out) = again (left out): same bytes, CONTRADICTING labels" in report.to_text()
    assert "b = b again: same bytes, same labels" in report.to_text()


def test_no_corpus_is_refused(tmp_path):
    with pytest.raises(UserError, match="expected recordings"):
        audit(tmp_path)


def test_originals_of_ravdess(shared_data):
    report = audit(shared_data / "originals" / "ravdess")
    assert len(report.stereo) == 5
    assert [(group.names, group.same, group.contradicting) for group in report.identical] == [
        (("03-01-03-01-02-01-07", "03-01-03-01-02-02-07"), "bytes", False)
    ]
    assert [exclusion.name for exclusion in report.excluded] == ["03-01-03-01-02-02-07"]
    assert (report.truncated, report.odd_rates) == ((), {})


def test_originals_of_crema_d(shared_data):
    report = audit(shared_data / "originals" / "crema_d")
    pairs = [
        ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX"),
        ("1013_WSI_DIS_XX", "1013_WSI_SAD_XX"),
        ("1017_IWW_ANG_XX", "1017_IWW_FEA_XX"),
    ]
    assert [(group.names, group.same, group.contradicting) for group in report.identical] == [
        (pair, "bytes", True) for pair in pairs
    ]
    assert report.silent == ("1076_MTI_SAD_XX.wav",)
    assert [exclusion.name for exclusion in report.excluded] == [*sum(pairs, ()), "1076_MTI_SAD_XX"]
    assert (report.truncated, report.odd_rates) == ((), {})


def test_json(healthy):
    report = audit(healthy)
    written = json.loads(report.to_json())
    assert list(written) == [
        "corpus",
        "root",
        "files",
        "utterances",
        "seconds",
        "counts",
        "expected",
        "missing",
        "unpublished",
        "foreign",
        "unknown_emotions",
        "copies",
        "differing_copies",
        "lfs_pointers",
        "undecodable",
        "truncated",
        "empty",
        "silent",
        "not_finite",
        "clipped",
        "clipping_rule",
        "stereo",
        "rates",
        "usual_rate_hz",
        "odd_rates",
        "identical",
        "excluded",
        "known_faults",
    ]
    assert written["counts"] == report.counts


def test_text(tmp_path, rng):
    for sentence in ("DFA", "IOM"):
        write(tmp_path, f"1001_{sentence}_ANG_XX.wav", noise(rng), rate_hz=16_000)
    write(tmp_path, "1076_MTI_SAD_XX.wav", np.zeros(1600), rate_hz=16_000)
    lines = audit(tmp_path).to_text().splitlines()
    assert lines[:3] == [
        f"crema_d in {tmp_path}",
        "3 utterances in 3 files, 2 speakers, 0.00 h",
        "sampling rates: 3 at 16000 Hz",
    ]
    table = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("speaker ", "crema_d:", "all "))}
    assert table["speaker"] == ["angry", "disgust", "fearful", "happy", "neutral", "sad"]
    # an actor speaks 12 sentences, one of them at three levels except for neutral
    assert table["crema_d:1001"] == ["2/14", "0/14", "0/14", "0/14", "0/12", "0/14"]
    assert table["all"] == ["2/1271", "0/1271", "0/1271", "0/1271", "0/1087", "1/1271"]
    assert [line.split() for line in lines if line.startswith("missing")] == [["missing", "7439"]]
    assert "    and 7429 more; the JSON report names all" in lines
    silent = lines.index(next(line for line in lines if line.startswith("silent")))
    assert lines[silent + 1] == "    1076_MTI_SAD_XX.wav"
    assert lines[-1] == "    1076_MTI_SAD_XX: every sample is zero"


def test_text_of_identical_recordings(tmp_path, rng):
    samples = noise(rng)
    for code in ("HAP", "NEU"):
        write(tmp_path, f"1006_TIE_{code}_XX.wav", samples, rate_hz=16_000)
    expected = "1006_TIE_HAP_XX (left out) = 1006_TIE_NEU_XX (left out): same bytes, CONTRADICTING labels"
    assert expected in audit(tmp_path).to_text()


def test_progress_is_shown_on_stderr(healthy, capsys):
    assert audit(healthy, progress=True).files == 4
    captured = capsys.readouterr()
    assert "reading" in captured.err
    assert captured.out == ""


def test_a_file_name_that_is_not_utf8_can_be_printed(healthy):
    (healthy / os.fsdecode(b"\xff.wav")).touch()
    report = audit(healthy)
    assert report.foreign == ("\\xff.wav",)
    report.to_text().encode()
