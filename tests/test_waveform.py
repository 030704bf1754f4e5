import io
import os
import re
import warnings

import numpy as np
import pytest
import soundfile
from sounds import decoded, encoded, muxed, sine

from ser_tf.audio.waveform import read_waveform, to_waveform
from ser_tf.errors import UserError

WAV_SUBTYPES = ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


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
    "text": (b"this is no sound, but a text\nof lines", "Received: a text, 'this is no sound, but a text'; fetch the"),
    "blank": (b"\n \n" * 20, "Received: a text, ''; fetch the recording itself"),
    "HTML": (b"\n<!DOCTYPE html><html><title>Sign in</title>", r"Received: a web page \(HTML\); fetch the recording"),
    "zip": (b"PK\x03\x04\x14\0\0\0", "Received: a zip archive; unpack it"),
    "noise": (
        bytes(range(128, 256)) * 4,
        "expected wav, flac, ogg.* Received: a file of another format; convert it, .*ffmpeg",
    ),
    "m4a": (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom\0\0\0\0" + bytes(100), "damaged or truncated|needs PyAV"),
    "header only": (encoded(np.zeros(0)), "no samples"),
    "silent": (encoded(np.zeros(16_000)), "1.0 s that are silent"),
    "opposite channels": (
        encoded(np.stack([sine(16_000), -sine(16_000)], 1), subtype="FLOAT"),
        "channels that cancel each other",
    ),
    "nearly opposite channels": (  # their mean is 0.0045 of a channel's level
        encoded(np.stack([sine(16_000), -0.991 * sine(16_000)], 1)),
        "channels that cancel each other",
    ),
    "10 ms": (encoded(sine(16_000, 0.01)), "at least 32 ms of sound. Received: 10.0 ms"),
    "NaN": (encoded(damaged(7, np.nan), subtype="FLOAT"), "finite samples. Received: 1 that are NaN or Inf"),
    "Inf": (encoded(damaged(7, -np.inf), subtype="FLOAT"), "finite samples. Received: 1 that are NaN or Inf"),
    "too loud": (encoded(damaged(7, 2.5), subtype="FLOAT"), r"in \[-1, 1\]. Received: samples up to 2.5; divide"),
    "int16 as float": (encoded(np.rint(1e4 * sine(16_000)), subtype="FLOAT"), "not scaled: divide by 32768"),
    "UTF-16": ("hello".encode("utf-16"), "expected wav, flac.* Received: data that cannot be decoded; convert it"),
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
        *((file_format, "PCM_16") for file_format in ("WAVEX", "RF64", "W64", "AIFF", "AU", "FLAC", "CAF", "NIST")),
        ("OGG", "VORBIS"),
        ("MP3", "MPEG_LAYER_III"),
    ],
)
def test_a_truncated_recording_is_refused(file_format, subtype, part, rng):
    content = encoded(0.1 * rng.standard_normal(48_000), 48_000, file_format, subtype)
    decoded(content)
    with pytest.raises(UserError, match=r"^clip: .*truncated.*; fetch it again"):
        decoded(content[: int(part * len(content))])


def test_a_wav_written_to_a_pipe_is_read():
    content = bytearray(encoded(sine(16_000)))
    size = content.index(b"data") + 4
    content[size : size + 4] = b"\xff\xff\xff\xff"  # the length was not known when the header was written
    np.testing.assert_array_equal(read_waveform(bytes(content)), read_waveform(encoded(sine(16_000))))


def test_a_flac_of_unknown_length_is_refused():
    content = bytearray(encoded(sine(16_000), file_format="FLAC"))
    content[21] &= 0xF0  # the 36 bits of "total samples" in STREAMINFO: 0 is unknown
    content[22:26] = bytes(4)
    with pytest.raises(UserError, match="recording: expected a header that gives its length"):
        read_waveform(bytes(content))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "expected a recording, but there is no such file"),
        (os.mkdir, "expected a recording. Received: a directory"),
        (lambda path: path.symlink_to(path), "cannot be read: "),
        (os.mkfifo, "expected a recording. Received: a device or a pipe; copy it"),
        (lambda path: path.symlink_to("/dev/zero"), "expected a recording. Received: a device or a pipe; copy it"),
        (lambda path: (path.touch(), os.truncate(path, 100 << 30)), "at most 8 GiB. Received: 100.0 GiB; cut it"),
    ],
    ids=["missing", "directory", "loop of links", "pipe", "device", "huge"],
)
def test_a_path_without_a_recording_is_refused_by_name(make, message, tmp_path):
    path = tmp_path / "clip.wav"
    make(path)
    with pytest.raises(UserError, match=f"^{path}: .*{message}"):
        read_waveform(path)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 16_000)), r"expected shape \[N\] or \[N, channels\]. Received: shape=\[2, 16000\]; transpose"),
        (np.zeros((1, 2, 3)), r"Received: shape=\[1, 2, 3\]"),
        (np.float32(0.5), r"Received: shape=\[\]"),
        (np.zeros(0), "no samples"),
        (np.zeros(16_000, np.int64), "expected int8, int16, int32, uint8 or float. Received: dtype=int64"),
        (np.zeros(16_000, bool), "Received: dtype=bool"),
        ([[1, 2], [3]], "Received: ragged rows"),
        (np.zeros(16_000, complex), "Received: dtype=complex128"),
        (np.zeros(16_000 * 601, np.int8), "at most 600 s. Received: 601.0 s"),
    ],
)
def test_arrays_that_are_not_audio_are_refused(samples, message):
    with pytest.raises(UserError, match=f"^samples: .*{message}"):
        to_waveform(samples, 16_000)


@pytest.mark.parametrize("rate_hz", [0, -16_000, 999, 44_100.0, True, None, 1e19, 10**19])
def test_the_rate_is_a_positive_whole_number(rate_hz):
    with pytest.raises(
        UserError, match=rf"^samples: expected a rate in Hz, .*Received: rate_hz={re.escape(str(rate_hz))}"
    ):
        to_waveform(sine(16_000), rate_hz)


@pytest.mark.parametrize("kind", [bytearray, memoryview, io.BytesIO])
def test_content_comes_in_any_form(kind):
    content = encoded(sine(16_000))
    np.testing.assert_array_equal(read_waveform(kind(content)), read_waveform(content))


@pytest.mark.parametrize("recording", [None, 7, io.StringIO("text"), [0.1, 0.2]])
def test_other_files_are_named_by_their_type(recording):
    with pytest.raises(UserError, match=f"^recording: expected a path, bytes, .*Received: {type(recording).__name__};"):
        read_waveform(recording)


def test_a_name_with_spaces_is_quoted_in_the_command(tmp_path):
    path = tmp_path / "my clip.wav"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=f"`ffmpeg -i '{path}' converted.wav`"):
        read_waveform(path)


def test_a_name_that_is_not_utf8_is_escaped(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    path.touch()
    with pytest.raises(UserError, match=r"caf\\xe9.wav: .* zero bytes"):
        read_waveform(path)


# Checks of the container


@pytest.mark.parametrize(
    ("file_format", "subtype"),
    [
        *(("WAV", subtype) for subtype in ("GSM610", "G721_32", "NMS_ADPCM_16", "NMS_ADPCM_24", "NMS_ADPCM_32")),
        *(("AU", subtype) for subtype in ("G721_32", "G723_24", "G723_40")),
        *((file_format, "GSM610") for file_format in ("AIFF", "W64")),
    ],
)
def test_telephone_recordings_are_read_and_refused_if_cut(file_format, subtype):
    content = encoded(sine(8_000, 2), 8_000, file_format, subtype)
    waveform = read_waveform(content)
    assert 32_000 <= len(waveform) <= 32_000 + 2 * 320  # the last block of at most 320 samples is filled
    assert np.corrcoef(waveform[:32_000], sine(16_000, 2))[0, 1] > 0.9
    with pytest.raises(UserError, match="clip: truncated: "):
        decoded(content[: len(content) * 6 // 10])


@pytest.mark.parametrize("blocks", [50, 51])
def test_a_wav_in_gsm_gives_no_sound_of_the_filling_byte_after_an_odd_number_of_blocks(blocks):
    samples = 0.1 * np.random.default_rng(0).standard_normal(320 * blocks)  # 320 samples are a block of 65 bytes
    content = encoded(samples, 8_000, "WAV", "GSM610")
    assert len(decoded(content)[0]) == 320 * blocks
    with pytest.raises(UserError, match="clip: truncated: "):
        decoded(content[:-2])


@pytest.mark.parametrize("samples", [8_000, 8_001])
def test_filling_behind_a_caf_file_is_no_sound(samples):
    # libsndfile fills up a file of odd length.
    assert len(decoded(encoded(np.full(samples, 0.1), 8_000, "CAF", "PCM_S8"))[0]) == samples


@pytest.mark.parametrize(("file_format", "subtype"), [("VOC", "PCM_16"), ("XI", "DPCM_16"), ("SDS", "PCM_16")])
def test_formats_that_cannot_tell_whether_they_are_whole_are_refused(file_format, subtype):
    with pytest.raises(UserError, match=r"clip: expected wav, flac, .* Received: a file of another format; convert it"):
        decoded(encoded(sine(44_100), 44_100, file_format, subtype))


def test_a_damaged_sds_file_prints_nothing(capfd):
    content = bytearray(encoded(sine(16_000), 16_000, "SDS"))
    content[21] = 0  # the first block's beginning, of which libsndfile speaks on stdout
    with pytest.raises(UserError, match="another format"):
        decoded(bytes(content))
    assert capfd.readouterr() == ("", "")


MP3_FRAME = 576
"""Samples of a frame at 16 kHz (MPEG 2, layer III)."""


def constant_mp3(seconds: float, title: str = "") -> bytes:
    """At a constant rate, without Xing header."""
    return muxed(sine(16_000, seconds), 16_000, "mp3", "libmp3lame", title, write_xing="0")


@pytest.mark.parametrize("title", ["", "x" * 3000])
def test_an_mp3_without_a_length_is_read_whole(title):
    # libsndfile counts a tag of 3000 bytes as 750 ms of sound at 64 kbit/s.
    waveform = read_waveform(constant_mp3(3, title))
    # The encoder adds less than three frames of delay and filling.
    assert 48_000 <= len(waveform) <= 48_000 + 3 * MP3_FRAME
    loud = np.flatnonzero(np.abs(waveform) > 0.1)
    assert loud[-1] - loud[0] == pytest.approx(48_000, abs=100)


def test_an_mp3_without_a_length_is_refused_when_it_ends_inside_a_frame():
    content = constant_mp3(3)
    with pytest.raises(UserError, match=r"recording: truncated: it ends inside an MP3 frame, after \d+ samples"):
        read_waveform(content[: len(content) // 2])


@pytest.mark.parametrize("header", ["0", "1"])
def test_concatenated_mp3_files_are_read_completely(header):
    part = muxed(sine(16_000, 1), 16_000, "mp3", "libmp3lame", "title", write_xing=header)
    waveform = read_waveform(part + part)
    assert 32_000 <= len(waveform) <= 32_000 + 6 * MP3_FRAME
    assert np.abs(waveform[-8000:-4000]).max() > 0.4


def test_mp3_files_of_two_rates_in_a_row_are_refused():
    other = muxed(sine(48_000, 1), 48_000, "mp3", "libmp3lame")
    with pytest.raises(UserError, match="Received: MP3 recordings of different rates or channels in a row; convert it"):
        read_waveform(constant_mp3(1) + other)


@pytest.mark.parametrize(
    "tail", [b"TAG".ljust(128, b"\0"), bytes(5000), b"APETAGEX" + bytes([208, 7, 0, 0, 9]).ljust(2024)]
)
def test_tags_and_padding_after_an_mp3_are_not_sound(tail):
    np.testing.assert_array_equal(read_waveform(constant_mp3(1) + tail), read_waveform(constant_mp3(1)))


def ogg_pages(content: bytes) -> list[int]:
    return [place for place in range(len(content)) if content.startswith(b"OggS", place)]


@pytest.fixture(scope="module")
def opus() -> bytes:
    """3 s in Ogg; a page holds one."""
    return muxed(sine(48_000, 3), 48_000, "ogg", "libopus")


def test_an_ogg_file_that_ends_between_pages_is_read_with_one_warning(opus):
    *_, last = ogg_pages(opus)
    with pytest.warns(UserWarning, match="recording: its last Ogg page is not marked as the last") as warned:
        waveform = read_waveform(opus[:last])
    assert len(warned) == 1
    assert len(waveform) > 16_000
    without_end = slice(len(waveform) - 100)  # the resampler knows no sample behind the last
    np.testing.assert_allclose(waveform[without_end], read_waveform(opus)[without_end], atol=0.01)


def test_an_opus_file_without_the_mark_of_the_last_page_is_heard_whole(opus):
    *_, last = ogg_pages(opus)
    page = bytearray(opus[last:])
    page[5], page[22:26] = 0, bytes(4)  # the flags and the checksum
    checksum = 0
    for byte in page:  # Ogg's CRC as RFC 3533 tells it, bit by bit
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x104C11DB7 if checksum & 0x80000000 else 0)) & 0xFFFFFFFF
    page[22:26] = checksum.to_bytes(4, "little")
    with pytest.warns(UserWarning, match="recording: its last Ogg page is not marked as the last"):
        waveform = read_waveform(opus[:last] + page)
    np.testing.assert_array_equal(waveform, read_waveform(opus))
    page[100] ^= 1
    with pytest.raises(UserError, match=r"recording: .*damaged"), pytest.warns(UserWarning):
        read_waveform(opus[:last] + page)


@pytest.mark.parametrize("bytes_kept", [10, 27, 100])
def test_an_ogg_file_that_ends_inside_a_page_is_refused(opus, bytes_kept):
    *_, last = ogg_pages(opus)
    with pytest.raises(UserError, match="recording: truncated: it ends inside an Ogg page; fetch it again"):
        read_waveform(opus[: last + bytes_kept])


def test_ogg_files_in_a_row_are_refused(opus):
    with pytest.raises(UserError, match="Received: several Ogg recordings in a row, of which only the first would be"):
        read_waveform(opus + opus)


def test_padding_after_an_ogg_file_is_not_sound(opus):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_waveform(opus + bytes(1000)), read_waveform(opus))


@pytest.mark.parametrize("riff_size", [0, 36, 2**32 - 1])
def test_a_wav_whose_recorder_was_killed_is_read_to_its_end(riff_size):
    content = bytearray(encoded(sine(16_000)))
    size = content.index(b"data") + 4
    content[4:8], content[size : size + 4] = riff_size.to_bytes(4, "little"), bytes(4)
    np.testing.assert_array_equal(read_waveform(bytes(content)), read_waveform(encoded(sine(16_000))))


def test_chunks_after_empty_data_are_not_sound():
    content = encoded(np.zeros(0)) + b"LIST\x08\0\0\0INFOsome"
    content = content[:4] + (len(content) - 8).to_bytes(4, "little") + content[8:]
    with pytest.raises(UserError, match="no samples"):
        read_waveform(content)


def flac_header(rate_hz: int, channels: int, samples: int) -> bytes:
    """STREAMINFO without a single frame."""
    packed = rate_hz << 44 | (channels - 1) << 41 | 15 << 36 | samples
    return b"fLaC\x80\0\0\x22" + bytes([16, 0, 16, 0, *bytes(6)]) + packed.to_bytes(8, "big") + bytes(16 + 80)


def test_a_header_that_promises_too_much_is_refused_before_anything_is_decoded(monkeypatch):
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    # 600 s x 655,350 Hz x 8 channels: 11.7 GiB of float32 from 122 bytes.
    content = flac_header(655_350, 8, 600 * 655_350)
    assert len(content) == 122
    with pytest.raises(UserError, match=r"expected at most 921,600,000 samples in all channels. Received: 8 channels"):
        read_waveform(content)


def test_a_rate_that_makes_hours_of_a_few_bytes_is_refused():
    with pytest.raises(UserError, match=r"expected a rate in Hz, .* from 1,000 to 1,000,000. Received: rate_hz=1$"):
        read_waveform(encoded(sine(16_000), 1, file_format="AIFF"))


def test_a_stereo_original_equals_its_16_khz_copy(shared_data):
    originals = sorted((shared_data / "originals" / "ravdess").rglob("*.wav"))
    stereo = next(path for path in originals if soundfile.info(path).channels == 2)
    copy = next((shared_data / "ravdess").rglob(f"{stereo.stem}.flac"))
    original, copied = read_waveform(stereo), read_waveform(copy)
    assert len(original) == len(copied)
    np.testing.assert_allclose(original, copied, atol=2 / 2**15)  # the copy was rounded to 16 bit
