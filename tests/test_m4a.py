"""m4a with PyAV, on files written by its own encoder."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sounds import muxed, sine

from ser_tf.audio import m4a_backend
from ser_tf.audio.waveform import read_waveform
from ser_tf.errors import UserError

av = pytest.importorskip("av")


def write_m4a(path: Path, samples: np.ndarray, rate_hz: int, title: str = "", **options: str) -> bytes:
    """AAC in MP4 of samples float32 [channels, N]."""
    with av.open(str(path), "w", format="ipod", options=options) as container:
        container.metadata["title"] = title
        layout = "mono" if len(samples) == 1 else "stereo"
        stream = container.add_stream("aac", rate=rate_hz, layout=layout, bit_rate=128_000)
        container.start_encoding()
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), "fltp", layout)
        frame.sample_rate, frame.pts = rate_hz, 0
        for packet in [*(stream.encode(frame) if samples.size else ()), *stream.encode(None)]:
            container.mux(packet)
    return path.read_bytes()


def tone(rate_hz: int, seconds: float = 1.0, pitch_hz: float = 300.0) -> np.ndarray:
    return 0.4 * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * rate_hz)) / rate_hz)


@pytest.mark.parametrize(("rate_hz", "channels"), [(16_000, 1), (44_100, 2)])
def test_a_tone_comes_back_in_place(rate_hz, channels, tmp_path):
    path = tmp_path / "tone.m4a"
    write_m4a(path, np.stack([tone(rate_hz)] * channels), rate_hz)
    waveform = read_waveform(path)
    # The padding of the last block of 1024 samples may stay; the encoder's delay must not.
    assert 16_000 <= len(waveform) <= 16_000 + 1024
    inside = slice(1600, 14_400)
    np.testing.assert_allclose(waveform[inside], tone(16_000)[inside], atol=0.02)


def test_a_truncated_file_is_refused(tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", tone(16_000, 3.0)[None], 16_000)
    for cut in (content[: len(content) // 2], content[:40]):
        with pytest.raises(UserError, match=r"recording: (damaged or )?truncated: .*fetch it again"):
            read_waveform(cut)


def test_a_file_whose_header_comes_first_is_refused_when_it_is_cut(tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", tone(16_000, 3.0)[None], 16_000, movflags="faststart")
    assert content.index(b"moov") < content.index(b"mdat")
    with pytest.raises(UserError, match=r"recording: (damaged or )?truncated: .*fetch it again"):
        read_waveform(content[: len(content) * 2 // 3])


def test_a_title_in_latin_1_does_no_harm(tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", tone(16_000)[None], 16_000, title="Celine")
    assert content.count(b"Celine") == 1
    np.testing.assert_array_equal(
        read_waveform(content.replace(b"Celine", "Céline".encode("latin-1"))), read_waveform(content)
    )


@pytest.mark.parametrize("box", [b"minf", b"stbl", b"stsd"])
def test_a_damaged_header_is_refused(box, tmp_path):
    # Without the box that names its codec PyAV cannot even tell the stream's rate: it raises an AttributeError.
    content = write_m4a(tmp_path / "tone.m4a", tone(16_000)[None], 16_000)
    assert content.count(box) == 1
    with pytest.raises(UserError, match=r"^recording: damaged or truncated: .*; fetch it again$"):
        read_waveform(content.replace(box, b"gone"))


def test_a_long_file_is_refused_before_it_is_decoded(monkeypatch, tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", tone(8_000, 601.0)[None], 8_000)
    monkeypatch.setattr(av, "AudioResampler", None)
    with pytest.raises(UserError, match=r"expected a recording of at most 600 s. Received: 60[01]\.\d s; cut it"):
        read_waveform(content)


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        UserError, match=r"^recording: m4a \(AAC\) needs PyAV; install the extra: pip install -e '.\[m4a\]'"
    ):
        read_waveform(b"\0\0\0\x20ftypM4A ")


def test_a_file_that_is_longer_than_it_claims_is_refused_while_it_is_decoded(monkeypatch, tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", tone(8_000, 12.0)[None], 8_000)
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        place = content.index(box) + offset
        content = content[:place] + (1).to_bytes(4, "big") + content[place + 4 :]
    check = m4a_backend.check_recording_length
    monkeypatch.setattr(m4a_backend, "check_recording_length", lambda *given: check(*given[:3], 10))
    with pytest.raises(UserError, match=r"recording: expected a recording of at most 10 s. Received: 10\.\d s"):
        read_waveform(content)


@pytest.mark.parametrize("part", [1.0, 0.6])
def test_webm_is_read_and_refused_when_it_is_cut(part):
    content = muxed(sine(48_000, 3), 48_000, "webm", "libopus")
    if part < 1:
        with pytest.raises(UserError, match=r"recording: truncated: it stops after \d+ samples"):
            read_waveform(content[: int(part * len(content))])
        return
    waveform = read_waveform(content)
    assert abs(len(waveform) - 48_000) <= 320  # a packet of 20 ms
    np.testing.assert_allclose(np.abs(waveform[1600:-1600]).max(), 0.5, atol=0.05)


def test_a_file_without_samples_is_refused(tmp_path):
    content = write_m4a(tmp_path / "tone.m4a", np.zeros((1, 0)), 16_000)
    with pytest.raises(UserError, match=r"^recording: "):
        read_waveform(content)
