"""The server as a process of its own, started by the command line, with a stand-in for the recogniser."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_server import file_of, tone

from benchmarks.server import ask, resident_megabytes, started

pytest.importorskip("uvicorn")

PROGRAM = (str(Path(__file__).with_name("stand_in.py")),)


def post(url: str, content: bytes, path: str = "/recognise") -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(url + path, content, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def connection(url: str) -> socket.socket:
    address = urlsplit(url)
    assert address.hostname is not None
    return socket.create_connection((address.hostname, address.port), timeout=30)


@pytest.fixture
def stand_in(monkeypatch):
    """Starts servers whose recogniser takes so many seconds for a recording."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    return lambda seconds=0.0, *options: started(seconds, *options, program=PROGRAM)


def test_without_a_model_it_serves_what_load_gives(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    with started(program=PROGRAM) as (url, process):
        assert post(url, file_of(tone()))[1]["emotion"] == "angry"
        assert (
            post(url, json.dumps({"instances": [[0.5, -0.5] * 999]}).encode(), "/v1/models/emotion:predict")[0] == 200
        )
    assert process.returncode == 0


def test_a_port_in_use_ends_in_one_line(stand_in):
    with stand_in() as (url, _):
        port = str(urlsplit(url).port)
        command = [sys.executable, *PROGRAM, "serve", "--port", port]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"ser-tf: port: 127.0.0.1:{port} cannot be used: ")
    assert ended.stderr.count("\n") == 1


def test_sigterm_finishes_what_runs_and_what_waits(stand_in):
    with stand_in(0.5) as (url, process):
        answers: list[tuple[int, dict]] = []
        count = 2 * (os.cpu_count() or 1) + 1  # more than there are workers at once
        threads = [threading.Thread(target=lambda: answers.append(post(url, file_of(tone())))) for _ in range(count)]
        for thread in threads:
            thread.start()
        time.sleep(0.3)  # all have sent their recording, and none has its answer
        assert not answers
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(30) == 0
        with pytest.raises(OSError):
            connection(url)
    assert [status for status, _ in answers] == [200] * count


def test_who_hangs_up_at_any_moment_spoils_nothing(stand_in):
    content = file_of(tone())
    head = f"POST /recognise HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with stand_in(0.1) as (url, _):
        for sent in (b"", b"POST /reco", head, head + content[: len(content) // 2], head + content):
            for _ in range(3):
                with connection(url) as client:
                    client.sendall(sent)
        assert post(url, content)[1]["emotion"] == "angry"


def test_what_is_no_http_is_refused(stand_in):
    with stand_in() as (url, _):
        with connection(url) as client:
            client.sendall(b"\x16\x03\x01 hello\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert post(url, file_of(tone()))[0] == 200


def test_a_gigabyte_is_refused_without_being_held(stand_in):
    with stand_in() as (url, process):
        before = resident_megabytes(process.pid)
        client = HTTPConnection(urlsplit(url).netloc, timeout=60)
        client.putrequest("POST", "/recognise")
        client.putheader("Transfer-Encoding", "chunked")
        client.endheaders()
        piece = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
        for _ in range(1024):
            client.send(piece)
        client.send(b"0\r\n\r\n")
        reply = client.getresponse()
        assert (reply.status, "at most 100 MB" in json.load(reply)["error"]) == (413, True)
        # The refused 100 MB were held for a moment; a gigabyte never was.
        assert resident_megabytes(process.pid) - before < 400
        assert post(url, file_of(tone()))[0] == 200


def test_clients_that_wait_meet_no_error_and_leave_nothing_behind(stand_in):
    """The short variant of `python -m benchmarks --only server`."""
    with stand_in() as (url, process):
        contents = [file_of(tone(seconds)) for seconds in (0.5, 1, 3)]
        ask(url, contents, clients=16, seconds=1)
        before = resident_megabytes(process.pid)
        load = ask(url, contents, clients=64, seconds=3)
        assert set(load.statuses) == {200}
        assert resident_megabytes(process.pid) - before < 50


def test_a_full_queue_is_met_by_real_clients_too(stand_in):
    count = 140  # more than the 128 places
    with stand_in(0.2) as (url, _):
        replies: list[tuple[int, str | None]] = []

        def client() -> None:
            asking = HTTPConnection(urlsplit(url).netloc, timeout=60)
            asking.request("POST", "/recognise", file_of(tone()))
            reply = asking.getresponse()
            replies.append((reply.status, reply.getheader("Retry-After")))

        threads = [threading.Thread(target=client) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(replies) == {(200, None), (503, "2")}
    assert sum(status == 200 for status, _ in replies) >= 128
