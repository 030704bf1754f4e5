"""The emotions of a long recording as a page: waveform, spectrogram and utterances in rows of equal time.

Positions are percent of a row and text is HTML, so that the page fits a desk, a phone and paper. Colour never carries
information alone: each utterance shows its number and emotion, and is listed in a table.
"""

import base64
import struct
import zlib
from collections.abc import Iterator
from html import escape

import numpy as np

from ser_tf.config import SAMPLE_RATE_HZ
from ser_tf.errors import printable
from ser_tf.report.colours import VARIABLES
from ser_tf.report.document import Bullets, Notice, Paragraph, Table
from ser_tf.report.page import fill_page, html_block
from ser_tf.serving.segmentation import Segment, Timeline

ROW_SECONDS = 20
"""Short enough that an utterance of 2 s has room for its number on a phone."""
ROW_SAMPLES = ROW_SECONDS * SAMPLE_RATE_HZ
TICKS = 4
"""Number of times written below a row."""
COLUMNS = 600
"""Columns of the waveform and the spectrogram in a full row."""
WINDOW_SAMPLES, HOP_SAMPLES = 512, 160
"""Of the spectrogram, as in the paper."""
BINS_PER_BAND = 4
RANGE_DB = 70
"""Range from white to black; black is a tone with the amplitude of the recording's loudest sample."""
GREYS = 16
"""Few levels, so that the image compresses well."""


def timeline_page(timeline: Timeline, samples: np.ndarray, source: str) -> str:
    """The page as self-contained HTML.

    Args:
        timeline: the utterances and their emotions.
        samples: the recording, int16 [N] at 16 kHz.
        source: the run or export that predicted the emotions.
    """
    colours = {emotion: VARIABLES[place % len(VARIABLES)] for place, emotion in enumerate(timeline.emotions)}
    peak = max(int(samples.max()), -int(samples.min()), 1)
    rows = [
        _row(timeline, samples[start : start + ROW_SAMPLES], start, peak, colours)
        for start in range(0, len(samples), ROW_SAMPLES)
    ]
    return fill_page(
        f"Emotions of {printable(timeline.name)}",
        lead=[html_block(block) for block in _lead(timeline)],
        contents='<ul><li><a href="#time">Over time</a></li><li><a href="#utterances">Utterances</a></li></ul>',
        main=[
            '<section id="time"><h2>Over time</h2>',
            _legend(timeline, colours),
            *rows,
            '</section>\n<section id="utterances"><h2>Utterances</h2>',
            html_block(_table(timeline)),
            "</section>",
        ],
        footer=f"Emotions by {printable(source)}; written by ser-tf predict --timeline.",
        style="timeline.css",
    )


def clock(seconds: float, decimals: int = 1) -> str:
    """As 1:02:03.4, or 2:03.4 within the first hour."""
    units = round(seconds * 10**decimals)
    whole, rest = divmod(units, 10**decimals)
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"
    return f"{text}.{rest:0{decimals}d}" if decimals else text


def _lead(timeline: Timeline) -> Iterator[Paragraph | Notice | Bullets]:
    spoken = sum(segment.end_seconds - segment.start_seconds for segment in timeline.segments)
    yield Paragraph(
        f"{clock(timeline.seconds)} of audio, {len(timeline.segments)} utterances with a total of {clock(spoken)}."
    )
    remarks = []
    if timeline.too_short:
        lost = sum(end - start for start, end in timeline.too_short)
        remarks.append(f"Left out for too little speech: {len(timeline.too_short)} ({lost:.1f} s).")
    if timeline.abstention:
        abstained = sum(segment.abstained is True for segment in timeline.segments)
        remarks.append(
            f"For a stated risk of {100 * timeline.abstention.risk:g} %, it {timeline.abstention}. Here it abstains "
            f"from {abstained} of {len(timeline.segments)}; their emotions are in brackets."
        )
    if remarks:
        yield Bullets(remarks)
    yield Notice(
        "How a voice sounds is not what someone feels. The network expects one speaker per utterance; music, noise "
        "and several voices at once make its answers unreliable."
    )


def _legend(timeline: Timeline, colours: dict[str, str]) -> str:
    counts = dict.fromkeys(timeline.emotions, 0)
    for segment in timeline.segments:
        counts[segment.prediction.emotion] += 1
    keys = "".join(
        f'<li style="--c:var({colours[emotion]})">{escape(emotion)} {count}</li>' for emotion, count in counts.items()
    )
    return (
        f'<ul class="legend" aria-label="Utterances of each emotion">{keys}</ul>\n<p class="caption">Waveform, and '
        f"below it the spectrogram from 0 to {SAMPLE_RATE_HZ // 2000} kHz, stronger where louder.</p>"
    )


def _row(timeline: Timeline, samples: np.ndarray, start: int, peak: int, colours: dict[str, str]) -> str:
    """One row of the drawing; `start` is the index of its first sample in the recording."""
    begin, end = start / SAMPLE_RATE_HZ, (start + len(samples)) / SAMPLE_RATE_HZ
    bands, boxes = [], []
    for number, segment in enumerate(timeline.segments, start=1):
        left, right = max(segment.start_seconds, begin), min(segment.end_seconds, end)
        if left >= right:
            continue
        emotion = segment.prediction.emotion
        place = f"left:{100 * (left - begin) / ROW_SECONDS:.2f}%;width:{100 * (right - left) / ROW_SECONDS:.2f}%"
        kind = ' class="abstained"' if segment.abstained else ""
        bands.append(f'<i style="{place};--c:var({colours[emotion]})"></i>')
        boxes.append(
            f'<b{kind} style="{place};--c:var({colours[emotion]})" title="{escape(_in_words(number, segment))}">'
            f"{number}<br>{escape(_answer(segment))}</b>"
        )
    ticks = "".join(
        f'<span style="left:{100 * tick / TICKS:.0f}%">{clock(begin + ROW_SECONDS * tick / TICKS, 0)}</span>'
        for tick in range(TICKS)
        if ROW_SECONDS * tick / TICKS <= end - begin
    )
    width = f"width:{100 * len(samples) / ROW_SAMPLES:.2f}%"
    return (
        f'<div class="row" role="img" aria-label="{clock(begin)} to {clock(end)}">'
        f'<div class="wave">{"".join(bands)}<svg viewBox="0 -100 {COLUMNS} 200" preserveAspectRatio="none">'
        f'<path d="{_outline(samples, peak)}"/></svg></div>'
        f'<img alt="" style="{width}" src="data:image/png;base64,{_spectrogram(samples, peak)}">'
        f'<div class="boxes">{"".join(boxes)}</div><div class="ticks">{ticks}</div></div>'
    )


def _in_words(number: int, segment: Segment) -> str:
    times = f"{clock(segment.start_seconds)} to {clock(segment.end_seconds)}"
    return f"{number}: {times}, {_answer(segment)}, {100 * segment.prediction.probability:.0f} %"


def _answer(segment: Segment) -> str:
    emotion = segment.prediction.emotion
    return f"({emotion})" if segment.abstained else emotion


def _outline(samples: np.ndarray, peak: int) -> str:
    """Maximum and minimum of each column as a closed SVG path; 100 is the recording's peak."""
    columns = max(len(samples) * COLUMNS // ROW_SAMPLES, 1)
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(int)
    highest = np.maximum.reduceat(samples, edges).astype(int) * 100 // peak
    lowest = -(-np.minimum.reduceat(samples, edges).astype(int) * 100 // peak)
    above = [f"{x} {-y}" for x, y in enumerate(highest.tolist())]
    below = [f"{x} {y}" for x, y in reversed(list(enumerate((-lowest).tolist())))]
    return f"M{'L'.join([*above, *below])}Z"


def _spectrogram(samples: np.ndarray, peak: int) -> str:
    """PNG in base64: the columns of the waveform, high bands at the top."""
    padded = np.pad(samples, (0, max(WINDOW_SAMPLES - len(samples), 0))).astype(np.float32) / peak
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]
    window = np.hamming(WINDOW_SAMPLES).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window)[:, :-1]) ** 2  # [frames, 256]
    power = power.reshape(len(frames), -1, BINS_PER_BAND).mean(axis=2)
    columns = max(min(len(samples) * COLUMNS // ROW_SAMPLES, len(frames)), 1)
    edges = np.linspace(0, len(frames), columns, endpoint=False).astype(int)
    power = np.add.reduceat(power, edges) / np.diff(np.append(edges, len(frames)))[:, None]
    level_db = 10 * np.log10(np.maximum(power, 1e-12)) - 20 * np.log10(window.sum() / 2)
    darkness = np.clip(1 + level_db / RANGE_DB, 0, 1)
    greys = 255 - np.rint(darkness * (GREYS - 1)) * (255 // (GREYS - 1))  # [columns, bands]
    return base64.b64encode(_png(greys.T[::-1].astype(np.uint8))).decode()


def _png(greys: np.ndarray) -> bytes:
    """A picture uint8 [height, width] as PNG."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = greys.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    unfiltered = np.pad(greys, ((0, 0), (1, 0)))  # filter 0 of each row
    data = zlib.compress(unfiltered.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _table(timeline: Timeline) -> Table:
    rows = [
        [
            str(number),
            clock(segment.start_seconds),
            clock(segment.end_seconds),
            _answer(segment),
            f"{100 * segment.prediction.probability:.0f}",
        ]
        for number, segment in enumerate(timeline.segments, start=1)
    ]
    muted = [place for place, segment in enumerate(timeline.segments) if segment.abstained]
    caption = "The most probable emotion and its probability in percent"
    if timeline.abstention:
        caption += "; in brackets if the network abstains"
    return Table(
        f"{caption}. timeline.csv in the same folder has the probabilities of all emotions.", _COLUMNS, rows, muted
    )


_COLUMNS = ("", "from", "to", "emotion", "%")
