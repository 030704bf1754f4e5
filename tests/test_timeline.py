"""A long recording: its cuts, the emotion of each utterance, and the page in a real browser."""

import csv
import json
import os
import re
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from sounds import muxed, sine

from ser_tf.audio.long_recording import read_long_recording
from ser_tf.audio.vad import as_int16
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import VadConfig
from ser_tf.errors import UserError
from ser_tf.report.timeline import clock, timeline_page
from ser_tf.serving import segmentation
from ser_tf.serving.abstention import Abstention, Outcome
from ser_tf.serving.recognition import Prediction
from ser_tf.serving.segmentation import Segment, Timeline, cut, name_segments, write_timeline

RATE_HZ = 16_000
EMOTIONS = ("happy", "sad", "<b>")


# Reading


@pytest.mark.parametrize("name", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate_hz", [8000, 16_000, 44_100])
def test_a_long_recording_is_heard_as_a_short_one_is(rng, tmp_path, name, rate_hz):
    path = tmp_path / f"stereo.{name}"
    soundfile.write(path, rng.uniform(-0.5, 0.5, (23 * rate_hz + 7, 2)), rate_hz)  # 10 s at a time, and a rest
    np.testing.assert_array_equal(read_long_recording(path), as_int16(read_waveform(path)))


def test_no_more_is_held_than_the_samples(rng, tmp_path):
    path, seconds = tmp_path / "minutes.wav", 300
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for _ in range(seconds):
            file.write(rng.uniform(-0.5, 0.5, (48_000, 2)))
    tracemalloc.start()
    try:
        samples = read_long_recording(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert abs(len(samples) - seconds * RATE_HZ) <= 1
    # Pieces, their join and a look at it are three times int16; at once, the file alone is six times as much.
    assert peak < 4 * samples.nbytes


BAD = {
    "silent": (lambda path: soundfile.write(path, np.zeros(RATE_HZ), RATE_HZ), r"Received: 1\.0 s that are silent"),
    "10 ms": (lambda path: soundfile.write(path, np.ones(160) / 2, RATE_HZ), r"at least 32 ms of sound\. Received: 10"),
    "no samples": (lambda path: soundfile.write(path, np.zeros(0), 8000), r"expected a sound\. Received: no samples"),
    "NaN": (
        lambda path: soundfile.write(path, np.full(RATE_HZ, np.nan, "float32"), RATE_HZ, subtype="FLOAT"),
        r"expected finite samples\. Received: 16000 that are NaN or Inf",
    ),
    "zero bytes": (lambda path: path.touch(), r"Received: a file of zero bytes; fetch it again"),
    "LFS pointer": (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), r"a git-LFS pointer"),
    "text": (lambda path: path.write_text("not a recording"), r"Received: a text, 'not a recording'; fetch the rec"),
    "no audio": (lambda path: path.write_bytes(bytes(range(128, 256))), r"expected wav, .*; convert it"),
    "truncated": (None, r"truncated: it stops after \d+ samples, before its end; fetch it again"),
    "absent": (lambda path: None, r"expected a recording, but there is no such file"),
    "directory": (lambda path: path.mkdir(), r"Received: a directory"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_recording_is_refused_by_name(tmp_path, rng, bad):
    make, message = BAD[bad]
    path = tmp_path / "bad.wav"
    if make is None:
        soundfile.write(path, rng.uniform(-0.5, 0.5, RATE_HZ), RATE_HZ)
        path.write_bytes(path.read_bytes()[:-1000])
    else:
        make(path)
    with pytest.raises(UserError, match=rf"^{path}: .*{message}") as error:
        read_long_recording(path)
    assert "\n" not in str(error.value)


def test_more_than_six_hours_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "day.wav"
    soundfile.write(path, np.ones(24 * 3600 * 1000) / 2, 1000, subtype="PCM_U8")
    with pytest.raises(UserError, match=r"at most 21600 s\. Received: 86400\.0 s; cut it into utterances"):
        read_long_recording(path)


@pytest.mark.parametrize("part", [1.0, 0.55])
def test_an_mp3_without_a_length_is_as_long_as_it_sounds(tmp_path, part):
    # 34 s: more than one block, and the last is short.
    content = muxed(sine(16_000, 34), 16_000, "mp3", "libmp3lame", "x" * 3000, write_xing="0")
    path = tmp_path / "stream.mp3"
    path.write_bytes(content[: int(part * len(content))])
    if part < 1:
        with pytest.raises(UserError, match=r"stream.mp3: truncated: it ends inside an MP3 frame"):
            read_long_recording(path)
        return
    samples = read_long_recording(path)
    assert 34 * RATE_HZ <= len(samples) <= 34 * RATE_HZ + 3 * 576  # an encoder's delay and filling
    np.testing.assert_array_equal(samples, as_int16(read_waveform(path)))


def test_a_name_that_is_no_utf8_is_escaped_in_every_file(tmp_path):
    name = os.fsdecode(b"caf\xe9.wav")
    timeline = Timeline(name, ("happy", "sad"), 1.0, [], [])
    write_timeline(timeline, tmp_path)
    assert json.loads((tmp_path / "timeline.json").read_text())["file"] == "caf\\xe9.wav"
    assert "Emotions of caf\\xe9.wav" in timeline_page(timeline, np.zeros(RATE_HZ, np.int16), name)


# Cutting


def cuts_of(monkeypatch, *runs: tuple[float, float], seconds: float = 60) -> tuple[list, list]:
    """Utterances and those too short to name, in seconds, of a recording with speech in these places."""
    is_voiced = np.zeros(round(seconds * RATE_HZ), bool)
    for begin, end in runs:
        is_voiced[round(begin * RATE_HZ) : round(end * RATE_HZ)] = True
    monkeypatch.setattr(segmentation, "voiced_samples", lambda samples, config: is_voiced)
    cuts = cut(np.zeros(len(is_voiced), np.int16), VadConfig())
    return tuple(
        [(begin / RATE_HZ, end / RATE_HZ) for begin, end in part] for part in (cuts.utterances, cuts.too_short)
    )


def test_a_pause_ends_an_utterance_and_a_shorter_one_does_not(monkeypatch):
    found = cuts_of(monkeypatch, (1, 2), (2.29, 3), (3.3, 4.5))
    assert found == ([(1, 3), (3.3, 4.5)], [])


def test_too_little_speech_is_told_apart(monkeypatch):
    # 0.49 s of speech is less than the configuration's 0.5 s; 2 x 0.25 s across a short pause is enough.
    assert cuts_of(monkeypatch, (1, 1.49), (5, 5.25), (5.5, 5.75)) == ([(5, 5.75)], [(1, 1.49)])


def test_a_recording_without_speech_has_no_utterance(monkeypatch):
    assert cuts_of(monkeypatch) == ([], [])


def test_a_recording_may_begin_and_end_in_speech(monkeypatch):
    assert cuts_of(monkeypatch, (0, 4), (6, 8), seconds=8) == ([(0, 4), (6, 8)], [])


def test_what_is_too_long_is_cut_at_its_longest_pause(monkeypatch):
    # 0 to 20 s: the pause at 8 s is the longest, the one at 0.3 s would leave too little, what is left is cut at 15 s.
    found = cuts_of(monkeypatch, (0, 0.3), (0.59, 8), (8.2, 15), (15.1, 20))
    assert found == ([(0, 8), (8.2, 15), (15.1, 20)], [])


def test_where_there_is_no_pause_parts_are_equal(monkeypatch):
    # 23 s need three parts of at most 11 s.
    (first, second, third), too_short = cuts_of(monkeypatch, (10, 33))
    assert (first[0], third[1], too_short) == (10, 33, [])
    assert first[1] == second[0] == pytest.approx(10 + 23 / 3, abs=1e-4)
    assert second[1] == third[0] == pytest.approx(10 + 46 / 3, abs=1e-4)


def test_no_speech_is_lost_or_told_twice(monkeypatch, rng):
    for _ in range(50):
        edges = np.cumsum(rng.choice([0.03, 0.09, 0.3, 0.6, 3, 14], 40)).round(2)
        runs = list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
        utterances, too_short = cuts_of(monkeypatch, *runs, seconds=edges[-1] + 1)
        parts = sorted([*utterances, *too_short])
        assert all(end - begin <= 11 for begin, end in parts)
        assert all(before[1] <= after[0] for before, after in pairwise(parts))
        assert all(any(begin <= (a + b) / 2 <= end for begin, end in parts) for a, b in runs)
        assert utterances == sorted(utterances)


def test_webrtcs_detector_finds_the_pauses_of_a_recording():
    # 2 s of a voice-like buzz, 1 s of silence, and again.
    times = np.arange(2 * RATE_HZ) / RATE_HZ
    buzz = 0.2 * np.sum([np.sin(2 * np.pi * 150 * k * times) / k for k in range(1, 20)], axis=0)
    quiet = np.zeros(RATE_HZ)
    cuts = cut(as_int16(np.concatenate([quiet, buzz, quiet, buzz, quiet])), VadConfig())
    found = [(begin / RATE_HZ, end / RATE_HZ) for begin, end in cuts.utterances]
    # The detector hangs on for some frames of 30 ms.
    np.testing.assert_allclose(found, [(1, 3), (4, 6)], atol=0.3)


# Naming


def prediction(emotion: str, probability: float) -> Prediction:
    rest = (1 - probability) / (len(EMOTIONS) - 1)
    shares = {name: probability if name == emotion else rest for name in EMOTIONS}
    return Prediction(emotion, probability, shares, 1.5, np.zeros(1), np.zeros(1))


ABSTENTION = Abstention(0.3, 0.6, Outcome(100, 3, 0.5, 0.3), Outcome(90, 3, 0.4, 0.35))


def test_an_utterance_is_heard_with_its_margins_and_told_by_its_speech():
    heard = []

    def recogniser(samples, rate_hz):
        heard.append((samples.tolist(), rate_hz))
        return prediction("sad", 0.59 if len(heard) == 1 else 0.61)

    samples = np.arange(8 * RATE_HZ, dtype=np.int16)
    cuts = segmentation.Cuts([(1600, 32_000), (40_000, 127_000)], [])
    first, second = name_segments(recogniser, samples, cuts, ABSTENTION)
    assert (first.start_seconds, first.end_seconds, first.abstained) == (0.1, 2.0, True)
    assert (second.start_seconds, second.end_seconds, second.abstained) == (2.5, 7.9375, False)
    # 0.15 s are 2400 samples, where there are as many.
    assert heard == [(samples[:34_400].tolist(), RATE_HZ), (samples[37_600:].tolist(), RATE_HZ)]
    assert [segment.abstained for segment in name_segments(recogniser, samples, cuts)] == [None, None]


# What is written


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """50 s of a chirp, from low to high."""
    times = np.arange(50 * RATE_HZ) / RATE_HZ
    return as_int16(0.5 * np.sin(2 * np.pi * (500 + 60 * times) * times))


@pytest.fixture(scope="module")
def timeline(samples) -> Timeline:
    """Three rows; the second utterance crosses the end of the first row."""
    segments = [
        Segment(1.25, 3.5, prediction("happy", 0.75), False),
        Segment(18.0, 22.0, prediction("sad", 0.5), True),
        Segment(41.0, 49.0, prediction("<b>", 0.9), False),
    ]
    cuts = segmentation.Cuts([], [(160_000, 164_000)])
    return Timeline.of("long & loud.wav", EMOTIONS, samples, cuts, segments, ABSTENTION)


def test_csv_and_json_say_the_same(timeline, tmp_path):
    write_timeline(timeline, tmp_path)
    with (tmp_path / "timeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("start_seconds", "end_seconds", "emotion", "probability", "abstained", "speech_seconds"),
        *EMOTIONS,
    ]
    told = json.loads((tmp_path / "timeline.json").read_text())
    assert (told["file"], told["seconds"], told["emotions"]) == ("long & loud.wav", 50, list(EMOTIONS))
    assert told["abstention"]["threshold"] == 0.6
    assert told["too_short"] == [{"start_seconds": 10, "end_seconds": 10.25}]
    for row, utterance in zip(rows, told["utterances"], strict=True):
        for name in ("start_seconds", "end_seconds", "probability", "speech_seconds"):
            assert float(row[name]) == pytest.approx(utterance[name])
        assert row["emotion"] == utterance["emotion"]
        assert row["abstained"] == str(utterance["abstained"]).lower()
        assert {name: float(row[name]) for name in EMOTIONS} == pytest.approx(utterance["probabilities"])
    assert [row["abstained"] for row in rows] == ["false", "true", "false"]


def test_without_a_stated_risk_nothing_is_said_of_abstaining(timeline, samples, tmp_path):
    segments = [replace(segment, abstained=None) for segment in timeline.segments]
    unasked = replace(timeline, segments=segments, abstention=None)
    write_timeline(unasked, tmp_path)
    with (tmp_path / "timeline.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["start_seconds", "end_seconds", "emotion", "probability", "speech_seconds", *EMOTIONS]
    assert rows[1] == ["18.00", "22.00", "sad", "0.500000", "1.5", "0.250000", "0.500000", "0.250000"]
    told = json.loads((tmp_path / "timeline.json").read_text())
    assert told["abstention"] is None
    assert not any("abstained" in utterance for utterance in told["utterances"])
    html = timeline_page(unasked, samples, "runs/mine").partition("</style>")[2]
    assert "abstain" not in html
    assert "(sad)" not in html


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0, "0:00.0"), (59.96, "1:00.0"), (61.25, "1:01.2"), (3599.96, "1:00:00.0"), (7384.5, "2:03:04.5")],
)
def test_a_clock_carries_over(seconds, told):
    assert clock(seconds) == told
    assert clock(3661, 0) == "1:01:01"


@pytest.fixture(scope="module")
def page(timeline, samples, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "timeline.html"
    path.write_text(timeline_page(timeline, samples, "runs/mine"))
    return path


def test_the_page_says_what_is_left_out_and_whom_to_trust(page):
    html = page.read_text()
    assert "<title>Emotions of long &amp; loud.wav</title>" in html
    assert "0:50.0 of audio, 3 utterances with a total of 0:14.2." in html  # 2.25 + 4 + 8 s
    assert "Left out for too little speech: 1 (0.2 s)." in html
    assert "abstains below a probability of 0.6000" in html
    assert "Here it abstains from 1 of 3" in html
    assert "Emotions by runs/mine" in html
    assert re.findall(r"<td[^>]*>\(sad\)</td><td[^>]*>50</td>", html)
    assert "<b>" not in html.replace("<b style", "")


def test_a_recording_without_utterances_has_a_page(samples):
    empty = Timeline.of("quiet.wav", EMOTIONS, samples[:100], segmentation.Cuts([], []), [])
    assert "0 utterances with a total of 0:00.0." in timeline_page(empty, samples[:100], "runs/mine")


def test_the_spectrogram_shows_low_below_and_high_above(page):
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page.read_text())
    decoded = [
        tf.io.decode_png(tf.io.decode_base64(picture.replace("+", "-").replace("/", "_"))) for picture in pictures
    ]
    rows = [picture.numpy()[:, :, 0] for picture in decoded]
    # 64 bands of 125 Hz, the highest first; 600 columns of 20 s, and half as many of the last 10 s.
    assert [row.shape for row in rows] == [(64, 600), (64, 600), (64, 300)]
    # The chirp's frequency at time t is 500 + 120 t: 500 Hz at first, 4100 Hz after 30 s.
    assert rows[0][:, 1].argmin() == 63 - 500 // 125
    assert abs(int(rows[1][:, 300].argmin()) - (63 - 4100 // 125)) <= 1


def boxes(browser, selector: str) -> list[list[float]]:
    """Left and right end of elements, in percent of the row."""
    return browser.evaluate(
        "[...document.querySelectorAll('.row')].flatMap(row => { const all = row.getBoundingClientRect();"
        f"return [...row.querySelectorAll('{selector}')].map(box => {{ const own = box.getBoundingClientRect();"
        "return [own.left, own.right].map(x => 100 * (x - all.left) / all.width) }) })"
    )


@pytest.mark.parametrize(("width", "dark"), [(380, False), (380, True), (1200, False)])
def test_a_browser_shows_every_utterance_in_its_place(browser, page, width, dark):
    browser.console.clear()
    browser.requests.clear()
    browser.open(page, width=width, dark=dark)
    assert browser.console == []
    assert {url for url in browser.requests if not url.startswith("data:")} == {page.resolve().as_uri()}
    wide, visible = browser.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= visible
    # Rows of 20 s: 1.25 to 3.5 s; 18 to 20 s and, in the next row, 0 to 2 s; 1 to 9 s of the third.
    expected = [(6.25, 17.5), (90, 100), (0, 10), (5, 45)]
    for selector in (".wave i", ".boxes b"):
        np.testing.assert_allclose(boxes(browser, selector), expected, atol=0.3)
    np.testing.assert_allclose(boxes(browser, "img"), [(0, 100), (0, 100), (0, 50)], atol=0.3)
    told = browser.evaluate("[...document.querySelectorAll('.boxes b')].map(box => box.innerText)")
    assert told == ["1\nhappy", "2\n(sad)", "2\n(sad)", "3\n<b>"]


def test_the_page_prints(browser, page, tmp_path):
    browser.open(page, width=1200)
    browser.pdf(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")
