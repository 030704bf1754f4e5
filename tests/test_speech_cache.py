import dataclasses
import errno
import multiprocessing
import os
import signal
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from sounds import decoded

from ser_tf.audio import recording
from ser_tf.audio.vad import remove_silence
from ser_tf.audio.waveform import read_waveform
from ser_tf.config import AudioConfig, Config, VadConfig
from ser_tf.corpora.corpus import Utterance
from ser_tf.errors import UserError
from ser_tf.pipeline.speech_cache import HEADER_WORDS, default_directory, prepare_speech


@pytest.fixture
def utterances(tmp_path, rng) -> list[Utterance]:
    """Three recordings of one second of noise, at 44.1 kHz."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    found = []
    for name in ("anna", "bert", "cleo"):
        path = folder / f"{name}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(44_100), 44_100)
        found.append(Utterance(name, path, f"table:{name}", "sad"))
    return found


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def files(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_cached_speech_is_what_the_line_gives(utterances, cache):
    prepared = prepare_speech(utterances, Config(), cache)
    assert [item.utterance for item in prepared.items] == utterances
    assert not prepared.failures
    for item in prepared.items:
        expected = remove_silence(read_waveform(item.utterance.path), VadConfig())
        words = tf.io.decode_raw(tf.io.read_file(str(item.path)), tf.int16).numpy()
        np.testing.assert_array_equal(words[HEADER_WORDS:], expected.samples)
        assert (item.samples, item.kept_whole) == (len(expected.samples), expected.kept_whole)


def test_kept_whole_survives_the_cache(utterances, cache):
    config = Config(vad=VadConfig(minimum_speech_seconds=100))
    for _ in ("written", "read"):
        assert all(item.kept_whole for item in prepare_speech(utterances, config, cache).items)


def test_the_second_time_nothing_is_decoded(utterances, cache, monkeypatch):
    first = prepare_speech(utterances, Config(), cache)

    def refuse(content, name):
        raise AssertionError(f"{name} was decoded again")

    monkeypatch.setattr(recording, "read_waveform", refuse)
    assert prepare_speech(utterances, Config(), cache) == first


def test_each_detector_and_content_has_its_own_file(utterances, cache):
    paths = {item.path for item in prepare_speech(utterances, Config(), cache).items}
    for vad in (VadConfig(mode=3), VadConfig(padding_frames=1), VadConfig(minimum_speech_seconds=0.6)):
        paths |= {item.path for item in prepare_speech(utterances, Config(vad=vad), cache).items}
    soundfile.write(utterances[0].path, np.full(44_100, 0.1), 44_100)
    paths |= {item.path for item in prepare_speech(utterances, Config(), cache).items}
    assert len(paths) == 4 * 3 + 1
    # What comes after the silence removal does not matter.
    other = dataclasses.replace(Config(), training=dataclasses.replace(Config().training, seed=9))
    assert {item.path for item in prepare_speech(utterances, other, cache).items} <= paths


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:5],
        lambda content: content[:-1],
        lambda content: content[:-2],
        lambda content: content + b"\0\0",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    ],
    ids=["empty", "half a header", "odd size", "a sample less", "a sample more", "a changed bit"],
)
def test_a_damaged_file_is_written_again(utterances, cache, damage):
    item = prepare_speech(utterances, Config(), cache).items[0]
    content = item.path.read_bytes()
    item.path.write_bytes(damage(content))
    assert prepare_speech(utterances, Config(), cache).items[0] == item
    assert item.path.read_bytes() == content


def test_a_bad_recording_is_named_and_the_others_go_on(utterances, cache):
    utterances[1].path.write_bytes(b"")
    with pytest.warns(UserWarning, match=f"^left out: {utterances[1].path}: .* zero bytes"):
        prepared = prepare_speech(utterances, Config(), cache)
    assert [item.utterance.name for item in prepared.items] == ["anna", "cleo"]
    ((utterance, reason),) = prepared.failures
    assert utterance == utterances[1]
    assert reason.startswith(f"{utterances[1].path}: ")
    assert "zero bytes" in reason


def test_more_than_60_s_of_speech_fail(utterances, cache, rng):
    soundfile.write(utterances[1].path, 0.1 * rng.standard_normal(8_000 * 61), 8_000)
    ((_, reason),) = prepare_speech(utterances, Config(vad=VadConfig(minimum_speech_seconds=100)), cache).failures
    assert reason == f"{utterances[1].path}: expected at most 60 s of speech. Received: 61.0 s; cut it into utterances"


def test_identical_recordings_share_a_file(utterances, cache):
    utterances[1].path.write_bytes(utterances[0].path.read_bytes())
    first, second, third = prepare_speech(utterances, Config(), cache).items
    assert first.path == second.path != third.path


def test_the_data_hash_names_the_recordings_and_labels_in_any_order(utterances, cache):
    whole = prepare_speech(utterances, Config(), cache).data_hash
    assert len(whole) == 16
    assert prepare_speech(utterances[::-1], Config(), cache).data_hash == whole
    assert prepare_speech(utterances[:2], Config(), cache).data_hash != whole
    for change in ({"name": "anne"}, {"speaker": "table:anne"}, {"emotion": "furious"}):
        changed = [dataclasses.replace(utterances[0], **change), *utterances[1:]]
        assert prepare_speech(changed, Config(), cache).data_hash != whole


def test_a_full_disk_is_reported_and_leaves_no_partial_file(utterances, cache, monkeypatch):
    original = tempfile.NamedTemporaryFile

    def on_a_full_disk(**arguments):
        file = original(**arguments)

        def write(content):
            raise OSError(errno.ENOSPC, "No space left on device")

        file.write = write
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", on_a_full_disk)
    message = (
        f"^{cache}: the speech cache cannot be written .No space left on device.*a different directory.*SER_TF_CACHE"
    )
    with pytest.raises(UserError, match=message):
        prepare_speech(utterances, Config(), cache)
    assert not files(cache)


def test_a_cache_that_is_not_a_directory_is_reported(utterances, cache):
    cache.write_text("a file")
    with pytest.raises(UserError, match=f"^{cache}: the speech cache cannot be written"):
        prepare_speech(utterances, Config(), cache)


def test_a_kill_and_two_processes_at_once_do_no_harm(utterances, cache):
    fork = multiprocessing.get_context("fork")

    def dies_while_writing():
        Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
        prepare_speech(utterances, Config(), cache)

    dying = fork.Process(target=dies_while_writing)
    dying.start()
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    assert not list(cache.rglob("*.speech"))

    living = [fork.Process(target=prepare_speech, args=(utterances, Config(), cache)) for _ in range(2)]
    for process in living:
        process.start()
    for process in living:
        process.join()
    assert [process.exitcode for process in living] == [0, 0]
    before = files(cache)
    assert len(prepare_speech(utterances, Config(), cache).items) == 3
    assert files(cache) == before  # nothing was missing, nothing damaged


def test_where_the_cache_lies_by_default(monkeypatch):
    monkeypatch.setenv("SER_TF_CACHE", "/somewhere")
    assert default_directory() == Path("/somewhere")
    monkeypatch.delenv("SER_TF_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert default_directory() == Path("/xdg/ser_tf/speech")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_directory() == Path.home() / ".cache/ser_tf/speech"


def test_the_decoder_is_part_of_the_key(utterances, cache, monkeypatch):
    tfio_backend = pytest.importorskip("ser_tf.audio.tfio_backend")
    monkeypatch.setattr(tfio_backend, "require_tfio", lambda: None)
    monkeypatch.setattr(tfio_backend, "decode", decoded)
    paths = {
        item.path
        for backend in ("soundfile", "tfio")
        for item in prepare_speech(utterances, Config(audio=AudioConfig(backend)), cache).items
    }
    assert len(paths) == 6


def test_a_flipped_bit_anywhere_in_a_cached_file_is_found(utterances, cache):
    first = prepare_speech(utterances[:1], Config(), cache)
    path = first.items[0].path
    whole = path.read_bytes()
    for place in (*range(2 * HEADER_WORDS), 2 * HEADER_WORDS + 5, len(whole) - 1):  # each byte of the header
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        assert prepare_speech(utterances[:1], Config(), cache) == first
        assert path.read_bytes() == whole


def test_a_cached_file_under_a_different_name_is_not_used(utterances, cache):
    first, second, _ = (item.path for item in prepare_speech(utterances, Config(), cache).items)
    whole = second.read_bytes()
    second.write_bytes(first.read_bytes())
    prepare_speech(utterances, Config(), cache)
    assert second.read_bytes() == whole


def test_a_cache_of_an_older_version_is_written_anew(utterances, cache):
    """Its CRC covered only the samples."""
    first = prepare_speech(utterances[:1], Config(), cache)
    path = first.items[0].path
    whole = path.read_bytes()
    body = whole[2 * HEADER_WORDS :]
    path.write_bytes(whole[:8] + zlib.crc32(body).to_bytes(4, "little") + whole[12:])
    assert path.read_bytes() != whole
    assert prepare_speech(utterances[:1], Config(), cache) == first
    assert path.read_bytes() == whole
