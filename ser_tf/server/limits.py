"""What the server takes, so that no client can fill its memory or keep it busy for ever."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of the server. Their defaults are for a machine with 4 GB of memory."""

    upload_bytes: int = 100_000_000
    """Of one recording: 17 minutes of wav at 48 kHz in mono, or hours of mp3."""
    recording_seconds: int = 1800
    answer_seconds: float = 120.0
    """From the start of a request to its answer, its upload and its wait included."""
    places: int = 128
    """Requests that are uploaded, wait or run at once."""
    held_bytes: int = 1_000_000_000
    """Of all uploads and decoded recordings at once."""
    instances: int = 128
    """Recordings of one predict request."""
    workers: int = 4
    """Recordings that are computed at once; fewer where there are fewer processors."""
