"""Checks of a recording's container before decoding.

libsndfile guesses the length of an MP3 without a Xing header, reads only the first of several concatenated recordings,
and trusts the header of a WAV. This module counts the container's own units: chunks, pages and frames.
"""

import io
import math
import re
import shlex
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from ser_tf.audio.checks import MAXIMUM_RECORDING_SECONDS, TruncatedRecording, check_recording_length
from ser_tf.errors import UserError

LFS_SIGNATURE = b"version https://git-lfs"
HEAD_BYTES = 512
"""Enough to recognise the kind of a file."""

_OTHER_KINDS = (
    (LFS_SIGNATURE, "a git-LFS pointer; fetch the audio with `git lfs pull`"),
    (b"<!doctype html", "a web page (HTML); fetch the recording itself"),
    (b"<html", "a web page (HTML); fetch the recording itself"),
    (b"<?xml", "an XML document; fetch the recording itself"),
    (b"PK\x03\x04", "a zip archive; unpack it"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"Rar!", "a RAR archive; unpack it"),
    (b"%PDF", "a PDF document; give a recording"),
    (b"\x89PNG", "a picture (PNG); give a recording"),
    (b"\xff\xd8\xff", "a picture (JPEG); give a recording"),
)
FORMATS = "wav, flac, ogg (Vorbis, Opus), mp3, aiff, au, caf or NIST sphere"
_SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"riff", b"fLaC", b"OggS", b".snd", b"dns.", b"caff", b"NIST_1A")
"""Beginnings of files that libsndfile reads, beside MP3 and AIFF, and that tell whether they are whole."""
_STREAMED_SIZE = b"\xff\xff\xff\xff"
"""Size of a WAV chunk of unknown length: it extends to the end of the file."""
_GSM = b"\x31\x00"
"""Number of the codec GSM 6.10 in a WAV file."""
_SPHERE_HEADER_BYTES = 1024
_SPHERE_COUNTS = (b"sample_count", b"channel_count", b"sample_n_bytes")


def refuse_other_kinds(head: bytes, name: str) -> None:
    """Refuse files that are certainly not recordings.

    Args:
        head: the first `HEAD_BYTES` of the file.
        name: its name in error messages.

    Raises:
        UserError: the file is empty, a git-LFS pointer, a web page, an archive, a picture or a text.
    """
    if not head:
        raise UserError(f"{name}: expected a recording. Received: a file of zero bytes; fetch it again")
    for signature, description in _OTHER_KINDS:
        if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(signature.lower()):
            raise UserError(f"{name}: expected a recording. Received: {description}")
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head) and _is_utf8(head):
        start = head[:40].decode(errors="ignore").strip().partition("\n")[0].strip()
        raise UserError(f"{name}: expected a recording. Received: a text, {start!r}; fetch the recording itself")


def needs_pyav(head: bytes) -> bool:
    """Whether a file that begins like this is MP4 (m4a) or WebM, which libsndfile does not read."""
    return head[4:8] == b"ftyp" or head.startswith(b"\x1a\x45\xdf\xa3")


def mend(file: BinaryIO, name: str, maximum_seconds: int = MAXIMUM_RECORDING_SECONDS) -> BinaryIO:
    """The file with a header that makes libsndfile read all of it.

    Args:
        file: the recording.
        name: its name in error messages.
        maximum_seconds: a longer MP3 is refused.

    Raises:
        UserError: the file has a different format, is truncated or too long, or holds concatenated recordings that
            cannot be read as one.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    mended = file
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        mended = _mend_wav(file, size)
    elif head[:4] == b"OggS":
        mended = _mend_ogg(file, size, name)
    elif head[:4] == b"caff":
        _check_caf(file, size, name)
    elif head.startswith(b"NIST_1A"):
        _check_sphere(file, size, name)
    elif head[:3] == b"ID3" or _frame(head):
        mended = _mend_mp3(file, size, name, maximum_seconds)
    elif not head.startswith(_SIGNATURES) and not (head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC")):
        raise UserError(f"{name}: expected {FORMATS}. Received: a file of another format; {conversion(name)}")
    mended.seek(0)
    return mended


def conversion(name: str) -> str:
    """The remedy for a format that cannot be read."""
    return f"convert it, for example with `ffmpeg -i {shlex.quote(name)} converted.wav`"


class _Pieces(io.RawIOBase):
    """A file made of pieces: bytes, or a range (start, end) of a different file."""

    def __init__(self, file: BinaryIO, pieces: list[bytes | tuple[int, int]]) -> None:
        self._file, self._pieces, self._place = file, pieces, 0
        self._size = sum(map(_length, pieces))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + (0, self._place, self._size)[whence]
        return self._place

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def, override]
        view, filled, start = memoryview(buffer).cast("B"), 0, 0
        for piece in self._pieces:
            end = start + _length(piece)
            if start <= self._place < end and filled < len(view):
                count = min(end - self._place, len(view) - filled)
                offset = self._place - start
                if isinstance(piece, bytes):
                    part = piece[offset : offset + count]
                else:
                    self._file.seek(piece[0] + offset)
                    part = self._file.read(count)
                view[filled : filled + len(part)] = part
                filled += len(part)
                self._place += len(part)
            start = end
        return filled


def _length(piece: bytes | tuple[int, int]) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1] - piece[0]


def _is_utf8(head: bytes) -> bool:
    try:
        head[:-3].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return True


def _mend_wav(file: BinaryIO, size: int) -> BinaryIO:
    """Give `data` a size that libsndfile understands.

    A recorder that was killed leaves the size 0 and a wrong RIFF size: the samples reach the file's end. After an odd
    number of GSM blocks libsndfile reads the padding byte as another block; a size one byte smaller prevents that.
    """
    file.seek(4)
    riff_end = 8 + int.from_bytes(file.read(4), "little")
    place, codec = 12, b""
    while place + 8 < size:
        file.seek(place)
        chunk = file.read(10)
        length = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"fmt ":
            codec = chunk[8:]
        if chunk[:4] == b"data":
            mended = chunk[4:8]
            if codec == _GSM and length % 2 and place + 8 + length <= size:
                mended = (length - 1).to_bytes(4, "little")
            elif not length and riff_end not in (size, size - 1):  # where RIFF has the right size, other chunks follow
                mended = _STREAMED_SIZE
            return _Pieces(file, [(0, place + 4), mended, (place + 8, size)])  # type: ignore[return-value]
        place += 8 + length + length % 2
    return file


def _check_caf(file: BinaryIO, size: int, name: str) -> None:
    """Refuse a CAF file that ends inside a chunk; the size -1 of `data` reaches to the end."""
    place = 8
    while place + 12 <= size:  # less is filling
        file.seek(place)
        header = file.read(12)
        length = int.from_bytes(header[4:], "big", signed=True)
        if header[:4] == b"data" and length == -1:
            return
        place += 12 + max(length, 0)
    if place > size:
        raise TruncatedRecording(name, "it ends inside a CAF chunk")


def _check_sphere(file: BinaryIO, size: int, name: str) -> None:
    """Refuse a NIST sphere file with fewer samples than its header says."""
    file.seek(0)
    header = file.read(_SPHERE_HEADER_BYTES)
    counts = [re.search(rb"\n%s -i (\d{1,12})\s" % field, header) for field in _SPHERE_COUNTS]
    if all(counts):
        promised, there = math.prod(int(count[1]) for count in counts if count), max(size - _SPHERE_HEADER_BYTES, 0)
        if there < promised:
            raise TruncatedRecording(name, f"it holds {there} of {promised} bytes of sound")


_OGG_HEADER_BYTES = 27
_OGG_FIRST, _OGG_LAST = 2, 4
"""Flags of a page."""


_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _mend_ogg(file: BinaryIO, size: int, name: str) -> BinaryIO:
    """Refuse an Ogg file that ends inside a page; mark the last page as the last where it is not, and warn of it."""
    start, place, streams, body = 0, 0, set[bytes](), False
    while place < size:
        start = place
        file.seek(place)
        header = file.read(_OGG_HEADER_BYTES)
        if not header.startswith(b"OggS") and not b"OggS".startswith(header):
            break
        lengths = file.read(header[-1]) if len(header) == _OGG_HEADER_BYTES else b""
        place += _OGG_HEADER_BYTES + len(lengths) + sum(lengths)
        if len(header) < _OGG_HEADER_BYTES or len(lengths) < header[-1] or place > size:
            raise TruncatedRecording(name, "it ends inside an Ogg page")
        flags, stream = header[5], header[14:18]
        if flags & _OGG_FIRST and body:
            raise UserError(
                f"{name}: expected one recording. Received: several Ogg recordings in a row, of which only the first "
                f"would be read; {conversion(name)}"
            )
        body = body or not flags & _OGG_FIRST
        if flags & _OGG_FIRST:
            streams.add(stream)
        if flags & _OGG_LAST:
            streams.discard(stream)
    if streams and place < size:
        raise TruncatedRecording(name, f"after {place} bytes no Ogg page follows")
    if not streams:
        return file
    warnings.warn(f"{name}: its last Ogg page is not marked as the last; it may have been cut", stacklevel=1)
    file.seek(start)
    page = file.read(place - start)
    # Without the mark libsndfile refuses the last page of Opus, which promises fewer samples than its packets hold.
    marked = page[:5] + bytes([page[5] | _OGG_LAST]) + page[6:]
    if page != _with_checksum(page):  # damaged, which libsndfile says
        return file
    return _Pieces(file, [(0, start), _with_checksum(marked)])  # type: ignore[return-value]


def _with_checksum(page: bytes) -> bytes:
    """An Ogg page with its CRC: that of zlib, but with the bits in the other order, and begun at 0."""
    blank = page[:22] + bytes(4) + page[26:]
    reversed_checksum = zlib.crc32(blank.translate(_BITS_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + int(f"{reversed_checksum:032b}"[::-1], 2).to_bytes(4, "little") + page[26:]


class _Frame(NamedTuple):
    """The header of an MPEG audio frame; frames of one stream have the same `stream`."""

    stream: tuple[int, int, int, bool]
    """Version, layer and rate as in the header's bits, and whether it is mono."""
    rate_hz: int
    samples: int
    length: int
    """In bytes."""


_MPEG1, _LAYER_1, _LAYER_3 = 3, 3, 1
_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS = {
    (True, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Keys: whether it is MPEG 1, and the layer's bits (3 is layer I); ISO 11172-3 and 13818-3."""
_MOST_JUNK_BYTES = 1 << 20
"""Between two frames; tags do not count."""
_XING_KBPS_CODE = {True: 5, False: 8}
"""64 kbit/s: a frame of at least 192 bytes."""


def _frame(header: bytes) -> _Frame | None:
    """Read the first four bytes of a frame of known length; None if they are something else."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bit_rate, rate = header[2] >> 4, header[2] >> 2 & 3
    if version not in _RATES_HZ or not layer or not 0 < bit_rate < 15 or rate == 3:
        return None
    rate_hz = _RATES_HZ[version][rate]
    bits_per_second = 1000 * _KBPS[version == _MPEG1, layer][bit_rate - 1]
    padding = header[2] >> 1 & 1
    if layer == _LAYER_1:
        samples, length = 384, 4 * (12 * bits_per_second // rate_hz + padding)
    else:
        samples = 576 if layer == _LAYER_3 and version != _MPEG1 else 1152
        length = samples // 8 * bits_per_second // rate_hz + padding
    return _Frame((version, layer, rate, header[3] >> 6 == 3), rate_hz, samples, length)


@dataclass
class _Mp3:
    """The frames of an MP3 file.

    Attributes:
        first: the first frame, and its four bytes.
        frames: number of frames with sound.
        runs: their positions, start and end.
        promised: number of frames in the Xing header; None without one.
        recordings: number of Xing headers.
        ends_inside: whether the last frame is cut.
    """

    first: tuple[_Frame, bytes] | None = None
    frames: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    promised: int | None = None
    recordings: int = 0
    ends_inside: bool = False

    def add(self, place: int, frame: _Frame, content: bytes) -> None:
        """Count a complete frame."""
        if self.first is None:
            self.first = frame, content[:4]
        is_header, promised = _xing(frame, content)
        if is_header:
            self.recordings += 1
            self.promised = promised if self.recordings == 1 and not self.frames else None
            return
        self.frames += 1
        if self.runs and self.runs[-1][1] == place:
            self.runs[-1] = self.runs[-1][0], place + frame.length
        else:
            self.runs.append((place, place + frame.length))


def _mend_mp3(file: BinaryIO, size: int, name: str, maximum_seconds: int) -> BinaryIO:
    """Give an MP3 a header with its number of frames, unless it has a correct one."""
    mp3 = _count_frames(file, size, name, maximum_seconds)
    if mp3.first is None or mp3.first[0].stream[1] != _LAYER_3:
        return file
    frame, header = mp3.first
    if mp3.promised is not None:
        if mp3.frames < mp3.promised - 1:  # some encoders count the header
            raise TruncatedRecording(name, f"it holds {mp3.frames} of {mp3.promised} MP3 frames")
        if mp3.frames <= mp3.promised + 1:
            return file
    elif mp3.ends_inside:
        raise TruncatedRecording(name, f"it ends inside an MP3 frame, after {mp3.frames * frame.samples} samples")
    return _Pieces(file, [_xing_frame(header, mp3.frames), *mp3.runs])  # type: ignore[return-value]


def _count_frames(file: BinaryIO, size: int, name: str, maximum_seconds: int) -> _Mp3:
    mp3 = _Mp3()
    for place, frame, content in _frames(file, size, name):
        if mp3.first and frame.stream != mp3.first[0].stream:
            raise UserError(
                f"{name}: expected one recording. Received: MP3 recordings of different rates or channels in a row; "
                f"{conversion(name)}"
            )
        if place + frame.length > size:
            mp3.ends_inside = True
            break
        mp3.add(place, frame, content)
        check_recording_length((mp3.frames - 2) * frame.samples, frame.rate_hz, name, maximum_seconds)
    return mp3


def _frames(file: BinaryIO, size: int, name: str) -> Iterator[tuple[int, _Frame, bytes]]:
    """Position, header and first bytes of every frame; tags and junk are skipped."""
    place, is_sure, begun = 0, False, False
    while place < size:
        file.seek(place)
        content = file.read(64)
        frame = _frame(content)
        if frame and (is_sure or _is_followed(file, place, frame, size)):
            yield place, frame, content
            place += frame.length
            is_sure = begun = True
        elif tag := _tag_bytes(content):
            place += tag
            is_sure = False
        else:
            following = _next_frame(file, place + 1, size)
            if following is None and begun:
                raise UserError(f"{name}: damaged: after {place} bytes no MP3 frame follows; fetch it again")
            place = size if following is None else following
            is_sure = True


def _is_followed(file: BinaryIO, place: int, frame: _Frame, size: int) -> bool:
    """Whether a frame of the same stream, a tag or the end follows directly, so it is no coincidence."""
    file.seek(place + frame.length)
    content = file.read(64)
    following = _frame(content)
    if following:
        return following.stream == frame.stream
    return place + frame.length >= size or bool(_tag_bytes(content))


def _next_frame(file: BinaryIO, place: int, size: int) -> int | None:
    """Start of the next frame; `size` if none follows before the end, None if there is too much junk."""
    end = min(size, place + _MOST_JUNK_BYTES)
    file.seek(place)
    content = file.read(end - place + 4)
    offset = content.find(b"\xff")
    while 0 <= offset < end - place:
        frame = _frame(content[offset : offset + 4])
        if frame and place + offset + frame.length < size and _is_followed(file, place + offset, frame, size):
            return place + offset
        offset = content.find(b"\xff", offset + 1)
    return size if end == size else None


def _tag_bytes(content: bytes) -> int:
    """Length of the tag that starts here (ID3v2, ID3v1, APE); 0 without one."""
    if content[:3] == b"ID3" and len(content) >= 10:
        size = 0
        for byte in content[6:10]:
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if content[5] & 0x10 else 0)
    if content[:3] == b"TAG":
        return 128
    if content[:8] == b"APETAGEX" and len(content) >= 16:
        return 32 + int.from_bytes(content[12:16], "little")
    return 0


def _side_bytes(frame: _Frame) -> int:
    """Bytes of side information before a Xing header."""
    version, _, _, is_mono = frame.stream
    if version == _MPEG1:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _xing(frame: _Frame, content: bytes) -> tuple[bool, int | None]:
    """Whether a frame is a header instead of sound, and how many frames it promises."""
    if content[36:40] == b"VBRI":
        return True, int.from_bytes(content[50:54], "big")
    start = 4 + _side_bytes(frame)
    if content[start : start + 4] not in (b"Xing", b"Info"):
        return False, None
    has_count = len(content) >= start + 12 and content[start + 7] & 1
    return True, int.from_bytes(content[start + 8 : start + 12], "big") if has_count else None


def _xing_frame(header: bytes, frames: int) -> bytes:
    """A header frame that promises this many frames of the same stream."""
    is_mpeg1 = header[1] >> 3 & 3 == _MPEG1
    third = _XING_KBPS_CODE[is_mpeg1] << 4 | header[2] & 0x0C
    start = bytes([0xFF, header[1] | 1, third, header[3]])  # without checksum
    frame = _frame(start)
    assert frame is not None
    promise = b"Info" + (1).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return (start + bytes(_side_bytes(frame)) + promise).ljust(frame.length, b"\0")
