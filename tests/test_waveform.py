import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_tf.audio.waveform import decode, read_waveform, to_waveform
from ser_tf.errors import UserError

WAV_SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def sine(rate_hz: int, seconds: float = 0.5, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def encoded(samples: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


@pytest.mark.parametrize("subtype", WAV_SUBTYPES)
def test_every_sample_format_gives_the_same_sine(subtype):
    # The steps of 8 bit are 1/128 apart, those of 16 bit and more at most 1/32768.
    tolerance = 1 / 128 if subtype == "PCM_U8" else 1 / 2**15
    waveform = read_waveform(encoded(sine(16_000), subtype=subtype))
    assert waveform.dtype == np.float32
    np.testing.assert_allclose(waveform, sine(16_000), atol=tolerance)


@pytest.mark.parametrize(("file_format", "subtype"), [("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16")])
def test_lossless_containers_equal_wav_exactly(file_format, subtype):
    samples = np.rint(sine(16_000) * 2**15).astype(np.int16)
    waveform = read_waveform(encoded(samples, 16_000, file_format, subtype))
    np.testing.assert_array_equal(waveform, read_waveform(encoded(samples)))


@pytest.mark.parametrize(("file_format", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_are_near(file_format, subtype):
    waveform = read_waveform(encoded(sine(16_000, 1), 16_000, file_format, subtype))
    assert len(waveform) == 16_000
    assert np.corrcoef(waveform, sine(16_000, 1))[0, 1] > 0.99


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_any_rate_becomes_16_khz(rate_hz):
    waveform = read_waveform(encoded(sine(rate_hz, 0.8), rate_hz, subtype="FLOAT"))
    assert len(waveform) == 12_800  # 0.8 s
    # The filter needs some milliseconds at either end to settle.
    np.testing.assert_allclose(waveform[800:-800], sine(16_000, 0.8)[800:-800], atol=1e-3)


def test_resampling_removes_what_16_khz_cannot_hold():
    # 10 kHz lies above the Nyquist frequency of 8 kHz: without a filter it would come back as 6 kHz.
    mixed = sine(48_000, hz=1_000) + sine(48_000, hz=10_000, level=0.4)
    waveform = to_waveform(mixed, 48_000)
    np.testing.assert_allclose(waveform[800:-800], sine(16_000, hz=1_000)[800:-800], atol=1e-3)


def test_channels_are_averaged():
    stereo = np.stack([sine(16_000), 0.5 * sine(16_000)], axis=1)
    waveform = read_waveform(encoded(stereo, subtype="FLOAT"))
    np.testing.assert_allclose(waveform, 0.75 * sine(16_000), atol=1e-6)


def test_path_text_bytes_and_array_agree(tmp_path):
    path = tmp_path / "clip.wav"
    path.write_bytes(encoded(sine(44_100), 44_100))
    expected = read_waveform(path)
    np.testing.assert_array_equal(read_waveform(str(path)), expected)
    np.testing.assert_array_equal(read_waveform(path.read_bytes()), expected)
    np.testing.assert_array_equal(to_waveform(soundfile.read(path, dtype="int16")[0], 44_100), expected)


@pytest.mark.parametrize(
    ("dtype", "zero", "full_scale"),
    [("uint8", 128, 128), ("int8", 0, 128), ("int16", 0, 32_768), ("int32", 0, 2**31), ("float32", 0, 1)],
)
def test_arrays_are_scaled_by_their_type(dtype, zero, full_scale):
    halves = np.tile([0.5, -0.5], 400)
    np.testing.assert_array_equal(to_waveform((halves * full_scale + zero).astype(dtype), 16_000), halves)


def test_overshoot_of_lossy_codecs_is_clipped():
    waveform = to_waveform(sine(16_000, level=1.2), 16_000)
    assert waveform.max() == 1.0
    assert waveform.min() == -1.0


def damaged(position: int, value: float) -> np.ndarray:
    samples = sine(16_000)
    samples[position] = value
    return samples


BAD_CONTENT = {
    "zero bytes": (b"", "zero bytes; fetch it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    "text": (b"this is no sound at all, but a text of some length", "expected wav, flac, ogg.*ffmpeg"),
    "m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0" + bytes(100), "damaged or truncated|needs PyAV"),
    "header only": (encoded(np.zeros(0)), "no samples"),
    "silent": (encoded(np.zeros(16_000)), "1.0 s that are silent"),
    "opposite channels": (encoded(np.stack([sine(16_000), -sine(16_000)], 1), subtype="FLOAT"), "silent"),
    "10 ms": (encoded(sine(16_000, 0.01)), "at least 32 ms of sound. Received: 10.0 ms"),
    "NaN": (encoded(damaged(7, np.nan), subtype="FLOAT"), "finite samples. Received: 1 that are NaN or Inf"),
    "Inf": (encoded(damaged(7, -np.inf), subtype="FLOAT"), "finite samples. Received: 1 that are NaN or Inf"),
    "too loud": (encoded(damaged(7, 2.5), subtype="FLOAT"), r"in \[-1, 1\]. Received: samples up to 2.5; divide"),
    "int16 as float": (encoded(np.rint(1e4 * sine(16_000)), subtype="FLOAT"), "not scaled: divide by 32768"),
    "too long": (encoded(np.zeros(8_000 * 601), 8_000, subtype="PCM_U8"), "at most 600 s. Received: 601.0 s; cut it"),
}


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content_is_refused_in_one_line_that_names_it(case, tmp_path):
    content, message = BAD_CONTENT[case]
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as from_file:
        read_waveform(path)
    assert str(from_file.value).startswith(f"{path}: ")
    assert "\n" not in str(from_file.value)
    with pytest.raises(UserError, match=f"^recording: .*{message}"):
        read_waveform(content)


@pytest.mark.parametrize("part", [0.9, 0.5])
@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [
        *(("WAV", subtype) for subtype in WAV_SUBTYPES),
        *((file_format, "PCM_16") for file_format in ("WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC")),
        ("OGG", "VORBIS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_a_truncated_recording_is_refused(file_format, subtype, part, rng):
    content = encoded(0.1 * rng.standard_normal(48_000), 48_000, file_format, subtype)
    decode(content, "whole")
    with pytest.raises(UserError, match=r"^clip: .*truncated.*; fetch it again"):
        decode(content[: int(part * len(content))], "clip")


def test_a_wav_written_to_a_pipe_is_read():
    content = bytearray(encoded(sine(16_000)))
    size = content.index(b"data") + 4
    content[size : size + 4] = b"\xff\xff\xff\xff"  # the length was not known when the header was written
    np.testing.assert_array_equal(read_waveform(bytes(content)), read_waveform(encoded(sine(16_000))))


def test_a_flac_of_unknown_length_is_refused():
    content = bytearray(encoded(sine(16_000), file_format="FLAC"))
    content[21] &= 0xF0  # the 36 bits of "total samples" in STREAMINFO: 0 is unknown
    content[22:26] = bytes(4)
    with pytest.raises(UserError, match="recording: expected a header that says how long it is"):
        read_waveform(bytes(content))


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"nowhere/clip.wav: .*there is no such file"):
        read_waveform(Path("nowhere/clip.wav"))


def test_a_directory_is_named(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path}: expected a recording. Received: a directory"):
        read_waveform(tmp_path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    loop = tmp_path / "loop.wav"
    loop.symlink_to(loop)
    with pytest.raises(UserError, match=r"loop.wav: cannot be read: "):
        read_waveform(loop)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 16_000)), r"expected shape \[N\] or \[N, channels\]. Received: shape=\[2, 16000\]; transpose"),
        (np.zeros((1, 2, 3)), r"Received: shape=\[1, 2, 3\]"),
        (np.float32(0.5), r"Received: shape=\[\]"),
        (np.zeros(0), "no samples"),
        (np.zeros(16_000, np.int64), "expected int8, int16, int32, uint8 or float. Received: dtype=int64"),
        (np.zeros(16_000, bool), "Received: dtype=bool"),
        (np.zeros(16_000, complex), "Received: dtype=complex128"),
        (np.zeros(16_000 * 601, np.int8), "at most 600 s. Received: 601.0 s"),
    ],
)
def test_arrays_that_are_no_audio_are_refused(samples, message):
    with pytest.raises(UserError, match=f"^samples: .*{message}"):
        to_waveform(samples, 16_000)


@pytest.mark.parametrize("rate_hz", [0, -16_000, 44_100.0, True, None])
def test_the_rate_is_a_positive_whole_number(rate_hz):
    with pytest.raises(UserError, match=f"^samples: expected a rate in Hz, .*Received: rate_hz={rate_hz}"):
        to_waveform(sine(16_000), rate_hz)


def test_a_stereo_original_equals_its_16_khz_copy(shared_data):
    originals = sorted((shared_data / "originals" / "ravdess").rglob("*.wav"))
    stereo = next(path for path in originals if soundfile.info(path).channels == 2)
    copy = next((shared_data / "ravdess").rglob(f"{stereo.stem}.flac"))
    original, copied = read_waveform(stereo), read_waveform(copy)
    assert len(original) == len(copied)
    np.testing.assert_allclose(original, copied, atol=2 / 2**15)  # the copy was rounded to 16 bit
