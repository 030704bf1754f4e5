"""Decoding with tensorflow-io inside the TensorFlow graph: an alternative to libsndfile, the extra `[tfio]`.

PCM and float samples equal libsndfile's bit for bit. Vorbis and mp3 decoders round differently and agree to 1e-6.
"""

import io
import struct
from functools import cache

import numpy as np
import tensorflow as tf

from ser_tf.audio.containers import HEAD_BYTES, mend, refuse_other_kinds
from ser_tf.audio.decoding import check_is_whole, open_recording
from ser_tf.errors import UserError, first_line

_OPERATIONS = {
    ("WAV", "PCM_U8"): ("decode_wav", tf.uint8),
    ("WAV", "PCM_16"): ("decode_wav", tf.int16),
    ("WAV", "PCM_24"): ("decode_wav", tf.int32),
    ("WAV", "FLOAT"): ("decode_wav", tf.float32),
    ("FLAC", "PCM_S8"): ("decode_flac", tf.uint8),
    ("FLAC", "PCM_16"): ("decode_flac", tf.int16),
    ("FLAC", "PCM_24"): ("decode_flac", tf.int32),
    ("OGG", "VORBIS"): ("decode_vorbis", tf.float32),
    ("MP3", "MPEG_LAYER_III"): ("decode_mp3", tf.float32),
}
"""Native operation and its output type, per format and subtype as libsndfile names them; 24 bit become int32."""


def require_tfio() -> None:
    """Require a working native library; its import succeeds even if it does not work.

    Raises:
        UserError: it does not work.
    """
    try:
        decode_in_graph(tf.audio.encode_wav(tf.zeros([1, 1]), 16_000), "WAV", "PCM_16")
    except (ImportError, NotImplementedError, tf.errors.OpError) as error:
        raise UserError(
            "audio backend tfio: expected tensorflow-io with TensorFlow 2.16 or 2.17. "
            f"Received: TensorFlow {tf.__version__} ({first_line(error)}); "
            "install the extra with `pip install -e '.[tfio]'`, or choose the backend soundfile"
        ) from error


def decode_in_graph(content: tf.Tensor, file_format: str, subtype: str) -> tf.Tensor:
    """Decode a recording with TensorFlow operations only, for example in `tf.data.Dataset.map`.

    Args:
        content: string [], the bytes of the file.
        file_format: "WAV", "FLAC", "OGG" or "MP3".
        subtype: the encoding, as libsndfile names it: "PCM_16", "FLOAT", "VORBIS" ...

    Returns:
        float32 [N, channels], full scale 1.
    """
    import tensorflow_io as tfio

    operation, dtype = _OPERATIONS[file_format, subtype]
    takes_dtype = {"dtype": dtype} if operation in ("decode_wav", "decode_flac") else {}
    samples = getattr(tfio.audio, operation)(content, **takes_dtype)
    if dtype == tf.uint8:
        return (tf.cast(samples, tf.float32) - 128) / 128
    return tf.cast(samples, tf.float32) / (1.0 if dtype == tf.float32 else -float(dtype.min))


def decode(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Decode the content of a recording; the tfio counterpart of `decoding.open_sound`.

    Args:
        content: the bytes of the file.
        name: name of the recording in error messages.

    Returns:
        The samples as float32 [N, channels], full scale 1, and their rate in Hz.

    Raises:
        UserError: the content is not a complete recording of at most 10 minutes, or tfio does not decode its format.
    """
    refuse_other_kinds(content[:HEAD_BYTES], name)
    mended = mend(io.BytesIO(content), name)
    content = mended.read()
    mended.seek(0)
    with open_recording(mended, name) as file:  # the operations give no rate: it is read from the header
        encoding = file.format.replace("WAVEX", "WAV"), file.subtype
        if encoding not in _OPERATIONS:
            raise UserError(
                f"{name}: the audio backend tfio expected wav (8, 16, 24 bit or float), flac, ogg (Vorbis) or mp3. "
                f"Received: {file.format} {file.subtype}; choose the backend soundfile"
            )
        try:
            samples = _graph(*encoding)(_bare_wav(content) if encoding[0] == "WAV" else content).numpy()
        except tf.errors.OpError as error:
            raise UserError(f"{name}: damaged or truncated: tensorflow-io cannot decode it; fetch it again") from error
        check_is_whole(len(samples), file, name)
        return samples, file.samplerate


def _bare_wav(content: bytes) -> bytes:
    """A wav with only the chunks `fmt ` and `data`: tfio fails on odd-sized others in RAVDESS's original files."""
    chunks = b""
    start = 12  # after "RIFF", the size, "WAVE"
    while start + 8 <= len(content):
        name, (size,) = content[start : start + 4], struct.unpack_from("<I", content, start + 4)
        body = content[start + 8 : start + 8 + size]
        if name in (b"fmt ", b"data"):
            chunks += name + struct.pack("<I", len(body)) + body
        start += 8 + size + size % 2
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


@cache
def _graph(file_format: str, subtype: str) -> tf.types.experimental.PolymorphicFunction:
    """One traced graph per encoding."""
    signature = [tf.TensorSpec([], tf.string)]
    return tf.function(lambda content: decode_in_graph(content, file_format, subtype), input_signature=signature)
