import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import webrtcvad
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from ser_tf.corpora import synthetic
from ser_tf.corpora.corpus import EMOTIONS
from ser_tf.corpora.opening import open_corpus
from ser_tf.corpora.synthetic import MANIFEST, parse, render, synthesise
from ser_tf.errors import UserError

SPEAKERS, TAKES = 8, 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesise(tmp_path_factory.mktemp("synthetic") / "corpus", speakers=SPEAKERS, takes=TAKES)


@pytest.fixture(scope="module")
def waveforms(corpus: Path) -> dict[str, np.ndarray]:
    """Mono 16 kHz by file name."""
    read = {}
    for path in sorted(corpus.glob("*.wav")):
        samples, rate_hz = soundfile.read(path, always_2d=True, dtype="float32")
        read[path.stem] = soxr.resample(samples.mean(axis=1), rate_hz, 16_000)
    return read


def speech_frames(waveform: np.ndarray) -> np.ndarray:
    """WebRTC's verdict on each 30 ms."""
    detector = webrtcvad.Vad(2)
    frames = (waveform * 32767).astype(np.int16)[: waveform.size // 480 * 480].reshape(-1, 480)
    return np.array([detector.is_speech(frame.tobytes(), 16_000) for frame in frames])


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir()}


def test_files(corpus: Path) -> None:
    paths = sorted(corpus.glob("*.wav"))
    assert len(paths) == SPEAKERS * len(EMOTIONS) * TAKES
    forms = {}
    for path in paths:
        info = soundfile.info(path)
        assert info.subtype == "PCM_16"
        assert 1.5 < info.duration < 3.7, path.name
        speaker, _ = parse(path.stem)
        forms.setdefault(speaker, set()).add((info.samplerate, info.channels))
    # Rates in turn, every fourth speaker in stereo.
    expected = [(16_000, 1), (22_050, 1), (48_000, 1), (16_000, 2), (22_050, 1), (48_000, 1), (16_000, 1), (22_050, 2)]
    assert forms == {f"synthetic:{number:02d}": {form} for number, form in enumerate(expected, start=1)}


def test_is_a_corpus(corpus: Path) -> None:
    opened = open_corpus(corpus)
    assert (opened.name, opened.emotions) == ("synthetic", EMOTIONS)
    assert len(opened.utterances) == SPEAKERS * len(EMOTIONS) * TAKES
    assert opened.speakers == tuple(f"synthetic:{number:02d}" for number in range(1, SPEAKERS + 1))


def test_nothing_clips_and_nothing_is_silent(waveforms: dict[str, np.ndarray]) -> None:
    for name, waveform in waveforms.items():
        assert 0.02 < np.abs(waveform).max() < 0.99, name


def test_detector_finds_speech_and_removes_the_silences(waveforms: dict[str, np.ndarray]) -> None:
    for name, waveform in waveforms.items():
        speech = speech_frames(waveform)
        # At least 0.25 s of silence at both ends and inside. The detector takes up to four frames to learn the noise
        # and holds on for about 0.12 s after speech, which leaves the last three and three in a row inside.
        assert not speech[-3:].any(), name
        assert not speech[4:8].all(), name
        assert speech.mean() > 0.4, name
        starts = np.flatnonzero(np.diff(speech.astype(int)) == 1)
        ends = np.flatnonzero(np.diff(speech.astype(int)) == -1)
        pauses = [start - end for end in ends for start in starts[starts > end][:1]]
        assert max(pauses) >= 3, name


def test_emotions_sound_as_the_profiles_say(waveforms: dict[str, np.ndarray]) -> None:
    def mean(measure, emotion: str) -> float:
        return np.mean([measure(waveform) for name, waveform in waveforms.items() if parse(name)[1] == emotion])

    def loudness_db(waveform: np.ndarray) -> float:
        return 20 * np.log10(np.std(waveform))

    def brightness_hz(waveform: np.ndarray) -> float:
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return np.average(np.fft.rfftfreq(waveform.size, 1 / 16_000), weights=power)

    # Profiles differ by 15 dB, 7.5 dB per octave and a factor 1.7 in tempo of which the silences take away a part.
    assert mean(loudness_db, "angry") > mean(loudness_db, "sad") + 10
    assert mean(brightness_hz, "angry") > 1.2 * mean(brightness_hz, "sad")
    assert mean(np.size, "sad") > 1.2 * mean(np.size, "fearful")


def test_emotion_can_be_learnt_but_not_easily(waveforms: dict[str, np.ndarray]) -> None:
    def features(waveform: np.ndarray) -> np.ndarray:
        speech = waveform[: waveform.size // 480 * 480].reshape(-1, 480)[speech_frames(waveform)].ravel()
        frames = np.lib.stride_tricks.sliding_window_view(speech, 512)[::160] * np.hamming(512)
        spectra = np.log(np.abs(np.fft.rfft(frames)) + 1e-4)
        bands = np.stack([band.mean(axis=1) for band in np.array_split(spectra - spectra.mean(), 32, axis=1)], axis=1)
        return np.concatenate([bands.mean(axis=0), bands.std(axis=0), np.abs(np.diff(bands, axis=0)).mean(axis=0)])

    speakers, truth = zip(*map(parse, waveforms), strict=True)
    measured = np.array([features(waveform) for waveform in waveforms.values()])
    model = make_pipeline(StandardScaler(), SVC(C=10))
    prediction = cross_val_predict(model, measured, truth, groups=speakers, cv=GroupKFold(4))
    # Chance is 12.5 %; 128 utterances give a standard error of 4 points at most.
    assert 0.35 < accuracy_score(truth, prediction) < 0.90


def test_same_seed_same_bytes_and_other_utterances_do_not_matter(tmp_path: Path, corpus: Path) -> None:
    some = contents(synthesise(tmp_path / "some", speakers=3, takes=1, emotions=("sad", "happy")))
    whole = contents(corpus)
    del some[MANIFEST]
    assert len(some) == 6
    assert all(whole[name] == data for name, data in some.items())
    other_seed = contents(synthesise(tmp_path / "other", speakers=1, takes=1, emotions=("sad",), seed=1))
    assert other_seed["syn-01-sad-01.wav"] != whole["syn-01-sad-01.wav"]


def test_takes_and_speakers_differ() -> None:
    first, second, other = (render(speaker, "sad", take)[0] for speaker, take in ((1, 1), (1, 2), (7, 1)))
    assert first.size != second.size
    assert first.size != other.size


def small(root: Path, **changes: object) -> Path:
    return synthesise(root, **{"speakers": 2, "takes": 1, "emotions": ("sad", "angry")} | changes)


def test_a_complete_corpus_is_left_alone(tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in small(tmp_path).iterdir()}
    assert len(before) == 5
    (tmp_path / "notes.txt").write_text("mine")  # a claimed directory may gain files
    small(tmp_path)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_a_killed_run_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed = contents(small(tmp_path / "undisturbed"))
    original, calls = Path.replace, []

    def killed_at_the_third_file(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at_the_third_file)
        with pytest.raises(KeyboardInterrupt):
            small(tmp_path / "killed")
    assert len(list((tmp_path / "killed").glob("*.wav"))) == 1
    completed = contents(small(tmp_path / "killed"))
    assert {name: data for name, data in completed.items() if not name.endswith(".partial")} == undisturbed


def test_a_kill_before_the_manifest_leaves_the_directory_usable(tmp_path: Path) -> None:
    (tmp_path / f"{MANIFEST}.1.partial").write_text("{")
    assert len(list(small(tmp_path).glob("*.wav"))) == 4


def test_manifest_says_how_it_was_made(tmp_path: Path) -> None:
    assert json.loads((small(tmp_path) / MANIFEST).read_text()) == {
        "corpus": "synthetic",
        "version": synthetic.VERSION,
        "speakers": 2,
        "takes": 1,
        "emotions": ["sad", "angry"],
        "seed": 0,
    }


def test_another_directory_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "03-01-05-01-02-01-12.wav").write_bytes(b"mine")
    with pytest.raises(
        UserError, match=r"expected a new or empty directory. Received: one with 03-01-05.*choose another"
    ):
        small(tmp_path)
    assert contents(tmp_path) == {"03-01-05-01-02-01-12.wav": b"mine"}


def test_a_corpus_made_otherwise_is_not_touched(tmp_path: Path) -> None:
    before = contents(small(tmp_path))
    with pytest.raises(
        UserError, match=rf'{MANIFEST}: expected .*"seed": 1.*Received: .*"seed": 0.*choose another'
    ) as caught:
        small(tmp_path, seed=1)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speakers": 0}, "speakers: expected 1 to 99. Received: 0"),
        ({"speakers": 100}, "speakers: expected 1 to 99. Received: 100"),
        ({"takes": 0}, "takes: expected 1 to 99. Received: 0"),
        ({"seed": -1}, "seed: expected 0 or more. Received: -1"),
        ({"emotions": ("sad", "bored")}, "emotions: expected some of neutral, .* Received: bored"),
        ({"emotions": ()}, "emotions: expected some of neutral, .* Received: none"),
    ],
)
def test_bad_parameters(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: the synthetic corpus cannot be written here: File exists"):
        small(tmp_path / "file")


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="cannot be written here: No space left on device"):
        small(tmp_path)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("syn-03-happy-01", ("synthetic:03", "happy")),
        ("syn-12-neutral-99", ("synthetic:12", "neutral")),
        ("syn-3-happy-01", None),
        ("syn-03-happy-01-copy", None),
        ("03-01-05-01-02-01-12", None),
    ],
)
def test_parse(stem: str, expected: tuple[str, str] | None) -> None:
    assert parse(stem) == expected


def test_parse_names_an_unknown_emotion() -> None:
    with pytest.raises(UserError, match=r"expected an emotion of neutral, calm, .*. Received: bored"):
        parse("syn-03-bored-01")


def test_import_without_tensorflow_or_scipy() -> None:
    code = "import sys, ser_tf.corpora.synthetic; sys.exit(bool({'tensorflow', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
