"""The tfio backend; the native part runs where `make test-tfio` has installed TensorFlow 2.17 and tensorflow-io."""

import io
import sys
import types

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from sounds import decoded

from ser_tf.audio import tfio_backend
from ser_tf.config import AudioConfig, Config
from ser_tf.corpora.corpus import Utterance
from ser_tf.errors import UserError
from ser_tf.pipeline import prepare_speech


def is_native() -> bool:
    try:
        tfio_backend.require_tfio()
    except UserError:
        return False
    return True


needs_native = pytest.mark.skipif(not is_native(), reason="tensorflow-io does not work here: see `make test-tfio`")

EXACT = [
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_24"),
    ("FLAC", "PCM_S8"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
]
LOSSY = [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


def encoded(file_format: str, subtype: str, channels: int = 1, seconds: float = 1.0) -> bytes:
    samples = 0.1 * np.random.default_rng(0).standard_normal((round(44_100 * seconds), channels))
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 44_100, format=file_format, subtype=subtype)
    return buffer.getvalue()


@needs_native
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("file_format", "subtype", "tolerance"), [*((*each, 0) for each in EXACT), *((*each, 1e-6) for each in LOSSY)]
)
def test_decoded_samples_equal_libsndfile(file_format, subtype, tolerance, channels):
    content = encoded(file_format, subtype, channels)
    samples, rate_hz = tfio_backend.decode(content, "clip")
    expected, expected_rate_hz = decoded(content)
    assert rate_hz == expected_rate_hz == 44_100
    assert samples.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(samples, expected, rtol=0, atol=tolerance)


@needs_native
@pytest.mark.parametrize("before", [b"data", None], ids=["before the samples", "after them"])
def test_foreign_chunks_of_odd_size_do_no_harm(before):
    content = encoded("WAV", "PCM_16")
    chunk = b"_PMX" + (5).to_bytes(4, "little") + b"hello\0"  # RAVDESS's own files carry such
    place = content.index(before) if before else len(content)
    content = (
        content[:4] + (len(content) + len(chunk) - 8).to_bytes(4, "little") + content[8:place] + chunk + content[place:]
    )
    np.testing.assert_array_equal(tfio_backend.decode(content, "clip")[0], decoded(content)[0])


@needs_native
def test_it_decodes_inside_a_tf_data_graph(tmp_path):
    paths = []
    for number, seconds in enumerate((0.5, 1.0, 1.5)):
        paths.append(tmp_path / f"{number}.flac")
        paths[-1].write_bytes(encoded("FLAC", "PCM_16", 2, seconds))
    in_graph = (
        tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
        .map(lambda path: tfio_backend.decode_in_graph(tf.io.read_file(path), "FLAC", "PCM_16"), num_parallel_calls=2)
        .as_numpy_iterator()
    )
    for samples, path in zip(in_graph, paths, strict=True):
        np.testing.assert_array_equal(samples, decoded(path.read_bytes())[0])


@needs_native
def test_the_pipeline_gives_the_same_speech(tmp_path):
    utterances = []
    for file_format, subtype in EXACT:
        path = tmp_path / f"{file_format}-{subtype}.audio"
        path.write_bytes(encoded(file_format, subtype, 2))
        utterances.append(Utterance(path.stem, path, "table:a", "sad"))
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    utterances.append(Utterance("broken", broken, "table:a", "sad"))
    prepared = {
        backend: prepare_speech(utterances, Config(audio=AudioConfig(backend)), tmp_path / "cache")
        for backend in ("soundfile", "tfio")
    }
    assert prepared["tfio"].failures == prepared["soundfile"].failures
    assert len(prepared["tfio"].failures) == 1
    assert len(prepared["tfio"].items) == len(EXACT)
    for one, other in zip(prepared["tfio"].items, prepared["soundfile"].items, strict=True):
        assert one.path != other.path
        assert one.path.read_bytes() == other.path.read_bytes()


@needs_native
def test_real_speech_is_decoded_alike(shared_data):
    for path in [
        *sorted((shared_data / "originals").rglob("*.wav")),
        *sorted((shared_data / "ravdess" / "Actor_01").glob("*.flac"))[:5],
    ]:
        content = path.read_bytes()
        np.testing.assert_array_equal(tfio_backend.decode(content, "clip")[0], decoded(content)[0])


@needs_native
@pytest.mark.parametrize(("file_format", "subtype"), EXACT + LOSSY)
def test_a_truncated_recording_is_refused(file_format, subtype):
    content = encoded(file_format, subtype)
    with pytest.raises(UserError, match=r"^clip: .*truncated.*; fetch it again"):
        tfio_backend.decode(content[: len(content) // 2], "clip")


@pytest.mark.parametrize(("file_format", "subtype"), [("WAV", "PCM_32"), ("WAV", "DOUBLE"), ("AIFF", "PCM_16")])
def test_a_format_that_only_libsndfile_reads_is_refused(file_format, subtype):
    message = f"^clip: .*tfio expected wav .*Received: {file_format} {subtype}; choose the backend soundfile"
    with pytest.raises(UserError, match=message):
        tfio_backend.decode(encoded(file_format, subtype), "clip")


def broken_native(content, dtype):
    raise NotImplementedError("unable to open file: libtensorflow_io.so\nmore lines")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "import of tensorflow_io halted"),
        (types.SimpleNamespace(audio=types.SimpleNamespace(decode_wav=broken_native)), "unable to open file"),
    ],
    ids=["absent", "native library does not load"],
)
def test_without_a_native_library_the_needed_tensorflow_is_named(module, reason, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_io", module)
    with pytest.raises(UserError) as error:
        prepare_speech([], Config(audio=AudioConfig("tfio")), tmp_path)
    message = str(error.value)
    assert "expected tensorflow-io with TensorFlow 2.16 or 2.17" in message
    assert f"Received: TensorFlow {tf.__version__}" in message
    assert reason in message
    assert "pip install -e '.[tfio]'" in message
    assert "\n" not in message
