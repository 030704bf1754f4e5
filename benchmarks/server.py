"""`ser-tf serve` with a model in ONNX, as the packaged one is: 64 clients for a minute, who wait for each answer."""

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from benchmarks.measuring import Ratio, Row, in_new_process
from ser_tf.config import preset
from ser_tf.corpora.corpus import Corpus

CLIENTS = 64
SECONDS = 60
SETTLED_AFTER_SECONDS = 15
"""After which one-time allocations are done."""


@dataclass
class Load:
    """What clients met.

    Attributes:
        statuses: how often each HTTP status came; None for a connection that broke.
        seconds: of each answer with status 200.
    """

    statuses: Counter[int | None] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)


def measure(corpus: Corpus, scratch: Path) -> Iterator[Row]:
    model = scratch / "server-onnx"
    in_new_process(_export_compact, scratch / "server-run", model)
    contents = [utterance.path.read_bytes() for utterance in corpus.utterances[:CLIENTS]]
    with started(model) as (url, process):
        early: list[float] = []
        timer = threading.Timer(SETTLED_AFTER_SECONDS, lambda: early.append(resident_megabytes(process.pid)))
        timer.start()
        load = ask(url, contents, CLIENTS, SECONDS)
        late = resident_megabytes(process.pid)
    errors = sum(load.statuses.values()) - load.statuses[200]
    yield Row(f"{CLIENTS} clients", load.statuses[200] / SECONDS, "per s")
    yield Row("errors", errors, "requests")
    for share in (50, 99):
        yield Row(f"answer, {share}th percentile", 1000 * float(np.percentile(load.seconds, share)), "ms")
    yield Row(f"resident after {SECONDS} s", late, "MB", Ratio.of(late, early[0], f"{SETTLED_AFTER_SECONDS} s"))


@contextmanager
def started(*arguments: object, program: tuple[str, ...] = ("-m", "ser_tf")) -> Iterator[tuple[str, subprocess.Popen]]:
    """A server of its own process on a free port: its address, and the process, which ends by SIGTERM."""
    command = [sys.executable, *program, "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        greeting = process.stdout.readline()
        assert greeting.startswith("http://"), process.stderr.read()
        yield greeting.split()[0], process
    finally:
        process.terminate()
        _, errors = process.communicate()
        assert "Traceback" not in errors, errors


def ask(url: str, contents: list[bytes], clients: int, seconds: float) -> Load:
    """Ask about recordings from many clients at once."""
    load = Load()
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = HTTPConnection(urlsplit(url).netloc, timeout=120)
        place = number
        while time.monotonic() < end:
            start = time.perf_counter()
            try:
                connection.request("POST", "/recognise", contents[place % len(contents)])
                reply = connection.getresponse()
                reply.read()
            except (OSError, HTTPException):
                load.statuses[None] += 1
                connection.close()
                continue
            load.statuses[reply.status] += 1
            if reply.status == 200:
                load.seconds.append(time.perf_counter() - start)
            place += clients
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return load


def resident_megabytes(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _export_compact(run: Path, model: Path) -> None:
    from benchmarks.networks import write_run
    from ser_tf.serving.engines import export_onnx

    write_run(run, preset("compact"))
    export_onnx(run, model, card="")
