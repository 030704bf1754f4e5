"""Recordings that tests make: by libsndfile, and by PyAV what libsndfile cannot write as it comes from phones."""

import io

import numpy as np
import pytest
import soundfile

from ser_tf.audio.decoding import open_sound


def sine(rate_hz: int, seconds: float = 0.5, hz: float = 440.0, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def encoded(samples: np.ndarray, rate_hz: int = 16_000, file_format: str = "WAV", subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=file_format, subtype=subtype)
    return buffer.getvalue()


def muxed(samples: np.ndarray, rate_hz: int, file_format: str, codec: str, title: str = "", **options: str) -> bytes:
    """Mono samples in FFmpeg's words: "mp3" and "libmp3lame", "ogg" or "webm" and "libopus", "ipod" and "aac" ..."""
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=file_format, options=options) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate_hz, layout="mono", bit_rate=64_000)
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate_hz)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        container.start_encoding()
        for part in [*(resampler.resample(frame) if samples.size else ()), None]:
            for packet in stream.encode(part):
                container.mux(packet)
    return buffer.getvalue()


def decoded(content: bytes, name: str = "clip") -> tuple[np.ndarray, int]:
    """Samples float32 [N, channels] as the decoder gives them, and their rate."""
    with open_sound(io.BytesIO(content), name) as sound:
        blocks = list(sound.blocks)
    return np.concatenate(blocks) if blocks else np.empty((0, 1), np.float32), sound.rate_hz
