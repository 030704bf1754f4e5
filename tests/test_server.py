"""The server's routes and limits, asked without a network in between and with a stand-in for the recogniser."""

import asyncio
import io
import json
import re
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from stand_in import EMOTIONS, StandIn, Threshold

pytest.importorskip("starlette")

from ser_tf.audio.vad import as_int16
from ser_tf.config import VadConfig
from ser_tf.errors import UserError
from ser_tf.server.app import application
from ser_tf.server.hearing import Hearing, peaks
from ser_tf.server.limits import Limits
from ser_tf.server.running import model_name, reserve
from ser_tf.serving.segmentation import cut

RATE_HZ = 16_000


def tone(seconds: float = 1.0, level: float = 0.8, rate_hz: int = RATE_HZ) -> np.ndarray:
    """A square wave, whose samples are all as loud."""
    return level * np.sign(np.sin(2 * np.pi * 200 * (np.arange(round(seconds * rate_hz)) + 0.5) / rate_hz))


def file_of(samples: np.ndarray, rate_hz: int = RATE_HZ, kind: str = "WAV", subtype: str | None = None) -> bytes:
    content = io.BytesIO()
    soundfile.write(content, samples, rate_hz, format=kind, subtype=subtype)
    return content.getvalue()


def with_client(
    work: Callable[[httpx.AsyncClient], Awaitable[Any]],
    recogniser: Any = None,
    *,
    abstention: Any = None,
    base_url: str = "http://localhost:8501",
    raises: bool = True,
    **options: Any,
) -> Any:
    """Result of the work, which gets a client of a new server."""
    app = application(Hearing(recogniser or StandIn(), abstention), **options)

    async def run() -> Any:
        transport = httpx.ASGITransport(app, raise_app_exceptions=raises)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            return await work(client)

    return asyncio.run(run())


def post(
    content: Any, path: str = "/recognise", headers: dict[str, str] | None = None, **server: Any
) -> httpx.Response:
    return with_client(lambda client: client.post(path, content=content, headers=headers), **server)


def predict(body: Any, **server: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return post(content, "/v1/models/emotion:predict", **server)


def get(path: str, headers: dict[str, str] | None = None, **server: Any) -> httpx.Response:
    return with_client(lambda client: client.get(path, headers=headers), **server)


# A recording


@pytest.mark.parametrize(
    ("kind", "subtype", "rate_hz"),
    [("WAV", "PCM_16", 16_000), ("WAV", "FLOAT", 44_100), ("FLAC", "PCM_24", 48_000), ("AIFF", "PCM_16", 8000)],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_file_of_any_format_is_named(kind, subtype, rate_hz, channels):
    samples = np.repeat(0.5 * np.sin(np.arange(rate_hz) / 20)[:, None], channels, axis=1)
    reply = post(file_of(samples, rate_hz, kind, subtype))
    assert reply.status_code == 200
    answer = reply.json()
    assert list(answer) == ["seconds", "emotion", "probability", "probabilities", "speech_seconds"]
    assert answer["seconds"] == pytest.approx(1, abs=1e-3)
    # A loudness of 0.5 leaves 0.5, of which "calm" gets three quarters.
    assert answer["emotion"] == "angry"
    assert list(answer["probabilities"]) == list(EMOTIONS)
    assert list(answer["probabilities"].values()) == pytest.approx([0.375, 0.125, 0.5], abs=5e-3)


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_too(kind, subtype):
    answer = post(file_of(0.5 * np.sin(np.arange(RATE_HZ) / 20), kind=kind, subtype=subtype)).json()
    assert answer["probability"] == pytest.approx(0.5, abs=0.05)


def test_a_stated_risk_marks_answers():
    soft, loud = (post(file_of(tone(level=level)), abstention=Threshold(0.7)).json() for level in (0.3, 0.8))
    # 0.3 leaves calm 0.525; 0.8 is above the threshold.
    assert (soft["emotion"], soft["abstained"]) == ("calm", True)
    assert (loud["emotion"], loud["abstained"]) == ("angry", False)


def voice_like(level: float) -> np.ndarray:
    times = np.arange(5 * RATE_HZ) / RATE_HZ
    buzz = np.sum([np.sin(2 * np.pi * 150 * k * times) / k for k in range(1, 20)], axis=0)
    return level * buzz / np.abs(buzz).max()


def test_a_long_recording_becomes_a_timeline():
    quiet = np.zeros(RATE_HZ)
    samples = np.concatenate([quiet, voice_like(0.8), quiet, voice_like(0.3), quiet])  # 13 s
    answer = post(file_of(samples), abstention=Threshold(0.7)).json()
    assert list(answer) == ["seconds", "emotions", "abstention", "utterances", "too_short"]
    assert (answer["seconds"], answer["emotions"], answer["too_short"]) == (13, list(EMOTIONS), [])
    times = [(one["start_seconds"] * RATE_HZ, one["end_seconds"] * RATE_HZ) for one in answer["utterances"]]
    assert times == cut(as_int16(samples), VadConfig()).utterances
    assert len(times) == 2
    first, second = answer["utterances"]
    assert (first["emotion"], first["abstained"]) == ("angry", False)
    assert (second["emotion"], second["abstained"]) == ("calm", True)
    assert first["probability"] == pytest.approx(0.8, abs=1e-4)
    assert second["probability"] == pytest.approx(0.525, abs=1e-4)


def test_peaks_are_of_each_column():
    # Half a second at half, half a second at full level, four columns a second.
    samples = as_int16(np.concatenate([tone(0.5, 0.25), tone(0.5, 0.5)]))
    assert peaks(samples, 4) == [50, 50, 100, 100]
    assert peaks(samples[:6000], 4) == [100, 100]  # the second column has 2000 samples
    assert peaks(np.zeros(100, np.int16), 100) == [0]
    assert len(post(file_of(tone()), "/recognise?peaks=20").json()["peaks"]) == 20


CUT = file_of(tone())[:20_000]
UPLOADS = {
    "nothing": (b"", "recording: expected a recording.* zero bytes"),
    "text": (b"hello", "recording: expected a recording.*a text"),
    "web page": (b"<!doctype html><p>", "recording: expected a recording.*web page"),
    "noise": (bytes(range(128, 256)) * 100, "recording: expected"),
    "cut off": (CUT, r"recording: truncated.*it stops after 9978 samples"),
    "silence": (file_of(np.zeros(RATE_HZ)), r"recording: expected a sound\. Received: 1\.0 s that are silent"),
    "10 ms": (file_of(tone(0.01)), r"at least 32 ms of sound\. Received: 10\.0 ms"),
    "NaN": (file_of(np.full(RATE_HZ, np.nan, "float32"), subtype="FLOAT"), "expected finite samples"),
    "opposite channels": (file_of(np.stack([tone(), -tone()], axis=1)), "channels that cancel each other"),
    "a header that lies": (
        file_of(tone())[:22] + struct.pack("<H", 1023) + file_of(tone())[24:],  # 1023 channels
        "recording: ",
    ),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_what_is_no_recording_is_refused_in_one_line(name):
    content, problem = UPLOADS[name]
    reply = post(content)
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]
    assert re.search(problem, reply.json()["error"]), reply.json()
    assert "\n" not in reply.json()["error"]


def test_a_form_is_refused_with_the_remedy():
    reply = with_client(lambda client: client.post("/recognise", files={"file": file_of(tone())}))
    assert (reply.status_code, "curl --data-binary" in reply.json()["error"]) == (415, True)


@pytest.mark.parametrize("asked", ["-1", "101", "x", "1e9", "٣"])
def test_peaks_that_are_no_number_are_refused(asked):
    reply = post(file_of(tone()), f"/recognise?peaks={asked}")
    assert (reply.status_code, reply.json()["error"][:6]) == (400, "peaks:")


# As TensorFlow Serving


def test_status_and_metadata_have_its_form():
    assert get("/v1/models/emotion").json() == {
        "model_version_status": [
            {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    told = get("/v1/models/emotion/metadata").json()
    assert told["model_spec"] == {"name": "emotion", "signature_name": "", "version": "1"}
    assert told["metadata"]["signature_def"]["signature_def"].keys() == {"serving_default", "padded"}


@pytest.mark.parametrize("path", ["", "/metadata", ":predict"])
def test_another_model_is_refused_with_the_one_there_is(path):
    method = "POST" if path == ":predict" else "GET"
    reply = with_client(lambda client: client.request(method, f"/v1/models/mine{path}"), name="s3")
    assert (reply.status_code, reply.json()["error"]) == (
        404,
        "model: expected s3, the one that is served. Received: 'mine'",
    )


LOUD, SOFT = [0.8, -0.8] * 8000, [0.2, -0.2] * 8000


@pytest.mark.parametrize("form", ["bare", "named"])
def test_instances_fill_their_rows(form):
    rows = [LOUD, SOFT] if form == "bare" else [{"waveform": LOUD}, {"waveform": SOFT}]
    loud, soft = predict({"instances": rows}).json()["predictions"]
    outputs = {"emotion", "probabilities", "embedding", "ghost_share", "speech_seconds", "problem"}
    assert loud.keys() == soft.keys() == outputs
    assert (loud["emotion"], loud["speech_seconds"], loud["problem"]) == ("angry", 1, "")
    assert loud["probabilities"] == pytest.approx([0.15, 0.05, 0.8])
    assert soft["probabilities"] == pytest.approx([0.6, 0.2, 0.2])
    assert (loud["embedding"], loud["ghost_share"]) == ([0.5] * 4, [0.25] * 2)


def test_what_stands_beyond_a_length_has_no_influence():
    rows = [{"waveform": SOFT + LOUD, "length": 16_000}, {"waveform": SOFT + LOUD, "length": 32_000}]
    soft, loud = predict({"signature_name": "padded", "instances": rows}).json()["predictions"]
    assert (soft["emotion"], soft["speech_seconds"]) == ("calm", 1)
    assert (loud["emotion"], loud["speech_seconds"]) == ("angry", 2)
    assert (soft["ghost_share"], loud["ghost_share"]) == ([0.25, 0.25, 0], [0.25] * 3)  # as wide as the longest needs


def test_one_bad_recording_spoils_no_other():
    bad = {
        "not finite": ([*LOUD[:-1], float("nan")], 16_000, "expected finite samples"),
        "beyond float32": ([*LOUD[:-1], 1e300], 16_000, "expected finite samples"),
        "not scaled": ([100 * sample for sample in LOUD], 16_000, "divide by 32768"),
        "silent": ([0] * 16_000, 16_000, "silent"),
        "too short": (LOUD, 100, "at least 32 ms"),
        "length": (LOUD, 16_001, "expected a length from 0 to the number of samples. Received: 16001"),
        "negative": (LOUD, -1, "expected a length from 0"),
    }
    rows = [{"waveform": waveform, "length": length} for waveform, length, _ in bad.values()]
    rows.insert(3, {"waveform": SOFT, "length": 16_000})
    reply = predict({"signature_name": "padded", "instances": rows})
    assert reply.status_code == 200
    predictions = json.loads(reply.text)["predictions"]  # Python reads the bare word NaN
    good = predictions.pop(3)
    assert (good["emotion"], good["problem"]) == ("calm", "")
    for (_, _, problem), row in zip(bad.values(), predictions, strict=True):
        assert (row["emotion"], problem in row["problem"]) == ("", True), row["problem"]
        assert [len(row[name]) for name in ("probabilities", "embedding", "ghost_share")] == [3, 4, 2]
        assert np.isnan([row["speech_seconds"], *row["probabilities"], *row["embedding"], *row["ghost_share"]]).all()


def padded(row: Any) -> dict[str, Any]:
    return {"signature_name": "padded", "instances": [row]}


REQUESTS = {
    "no JSON": (b"{", "body: expected JSON"),
    "not UTF-8": (b'{"instances": "\xff"}', "body: expected JSON"),
    "too deep": (b"[" * 100_000, "body: expected JSON"),
    "a number too long": (b'{"instances": [' + b"1" * 10_000 + b"]}", "body: expected JSON"),
    "no mapping": ([1], "no list of instances"),
    "inputs": ({"inputs": [LOUD]}, "no list of instances"),
    "instances no list": ({"instances": 1}, "no list of instances"),
    "unknown field": ({"instances": [LOUD], "rate": 8000}, "Received also: 'rate'"),
    "none": ({"instances": []}, "expected 1 to 128 recordings. Received: 0"),
    "too many": ({"instances": [[0.0]] * 129}, "expected 1 to 128 recordings. Received: 129"),
    "signature": ({"instances": [LOUD], "signature_name": "speech"}, "serving_default or padded. Received: 'speech'"),
    "signature no text": ({"instances": [LOUD], "signature_name": ["padded"]}, "serving_default or padded"),
    "two lengths": ({"instances": [LOUD, LOUD[:-1]]}, "of one length. Received: 15999 to 16000 samples; .*padded"),
    "two channels": ({"instances": [[[0.1, 0.2]] * 4]}, r"of one channel. Received: shape \[4, 2\]"),
    "ragged": ({"instances": [[[0.1], [0.1, 0.2]]]}, "Received: lists of several lengths"),
    "texts": ({"instances": [["0.1"]]}, r"instances\[0\].waveform: expected a list of numbers"),
    "null": ({"instances": [[0.1, None]]}, "expected a list of numbers"),
    "true": ({"instances": [[True]]}, "expected a list of numbers"),
    "huge integer": ({"instances": [[10**400]]}, "expected a list of numbers"),
    "a number": ({"instances": [0.1]}, r"instances\[0\]: expected {'waveform'}. Received: 0.1"),
    "wrong name": ({"instances": [{"audio": LOUD}]}, "expected {'waveform'}. Received: {'audio'}"),
    "no length": (padded({"waveform": LOUD}), "expected {'waveform', 'length'}. Received: {'waveform'}"),
    "length 0.5": (padded({"waveform": LOUD, "length": 0.5}), "length: expected a whole number"),
    "length true": (padded({"waveform": LOUD, "length": True}), "length: expected a whole number"),
    "length 2**40": (padded({"waveform": LOUD, "length": 2**40}), "length: expected a whole number"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_wrong_request_is_refused_in_one_line(name):
    body, problem = REQUESTS[name]
    reply = predict(body)
    assert reply.status_code == 400
    assert re.search(problem, reply.json()["error"]), reply.json()
    assert len(reply.text) < 2000


# Limits


@pytest.mark.parametrize("is_declared", [True, False])
def test_an_upload_that_is_too_large_is_refused_unread(is_declared):
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield bytes(1_000_000)

    headers = {"Content-Length": "1000000000"} if is_declared else {}
    reply = post(pieces(), headers=headers, limits=Limits(upload_bytes=3_000_000))
    assert (reply.status_code, reply.json()["error"]) == (
        413,
        "body: expected at most 3 MB. Received: more; send a shorter recording",
    )
    assert sent <= 4  # the fourth is one too many


def test_a_recording_that_is_too_long_is_refused():
    reply = post(file_of(tone(3)), limits=Limits(recording_seconds=2))
    assert (reply.status_code, "at most 2 s. Received: 3.0 s" in reply.json()["error"]) == (400, True)


class Gate(StandIn):
    """Waits until a test opens it; after the one call by which the server learns the size of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = threading.Event()
        self.calls = 0

    def __call__(self, samples: np.ndarray, rate_hz: int) -> Any:
        self.calls += 1
        if self.calls > 1:
            assert self.opened.wait(30)
        return super().__call__(samples, rate_hz)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("still not so")


def test_an_overfull_queue_answers_503_and_recovers():
    gate = Gate()
    content = file_of(tone())

    async def work(client: httpx.AsyncClient) -> Any:
        waiting = [asyncio.create_task(client.post("/recognise", content=content)) for _ in range(3)]
        await until(lambda: gate.calls > 1)
        refused = await client.post("/recognise", content=content)
        status = await client.get("/v1/models/emotion")  # needs no place
        gate.opened.set()
        return refused, status, await asyncio.gather(*waiting), await client.post("/recognise", content=content)

    refused, status, answered, after = with_client(work, gate, limits=Limits(places=3, workers=1))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert refused.json() == {"error": "expected fewer requests at once; try again in 2 s"}
    assert status.status_code == 200
    assert [reply.status_code for reply in answered] == [200] * 3
    assert after.status_code == 200


def test_so_do_uploads_that_together_are_too_large():
    gate = Gate()
    content = file_of(tone())  # 32,044 bytes, and 32,000 decoded

    async def work(client: httpx.AsyncClient) -> Any:
        waiting = asyncio.create_task(client.post("/recognise", content=content))
        await until(lambda: gate.calls > 1)
        refused = await client.post("/recognise", content=content)
        gate.opened.set()
        return refused, await waiting, await client.post("/recognise", content=content)

    refused, answered, after = with_client(work, gate, limits=Limits(held_bytes=90_000))
    assert [reply.status_code for reply in (refused, answered, after)] == [503, 200, 200]


def test_an_answer_that_takes_too_long_is_given_up():
    gate = Gate()

    async def work(client: httpx.AsyncClient) -> Any:
        refused = await client.post("/recognise", content=file_of(tone()))
        gate.opened.set()
        return refused, await client.post("/recognise", content=file_of(tone()))

    refused, after = with_client(work, gate, limits=Limits(answer_seconds=0.5))
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert refused.json()["error"].startswith("expected an answer within 0.5 s")
    assert after.status_code == 200


def test_an_upload_that_takes_too_long_is_given_up():
    async def pieces() -> AsyncIterator[bytes]:
        yield b"RIFF"
        await asyncio.sleep(60)

    reply = post(pieces(), limits=Limits(answer_seconds=0.2))
    assert (reply.status_code, reply.json()["error"]) == (408, "body: expected all of it within 0.2 s")


def test_who_hung_up_is_not_answered():
    gate = Gate()
    app = application(Hearing(gate), limits=Limits(workers=1))
    content = file_of(tone())

    async def ask(events: asyncio.Queue) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/recognise",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }

        async def send(_: Any) -> None:
            pass

        await app(scope, events.get, send)

    async def work() -> int:
        running, gone = asyncio.Queue(), asyncio.Queue()
        tasks = []
        for events in (running, gone):
            events.put_nowait({"type": "http.request", "body": content, "more_body": False})
            tasks.append(asyncio.create_task(ask(events)))
            await until(lambda: gate.calls == 2)
        gone.put_nowait({"type": "http.disconnect"})
        await tasks[1]
        gate.opened.set()
        await tasks[0]
        return gate.calls

    assert asyncio.run(work()) == 2  # that of the start, and the first; the second never had its turn


def test_a_failure_is_told_and_ends_no_server():
    class Fails(StandIn):
        def __call__(self, samples: np.ndarray, rate_hz: int) -> Any:
            if len(samples) == 8000:
                raise RuntimeError("secret")
            return super().__call__(samples, rate_hz)

    async def work(client: httpx.AsyncClient) -> Any:
        return [await client.post("/recognise", content=file_of(tone(seconds))) for seconds in (0.5, 1)]

    failed, after = with_client(work, Fails(), raises=False)
    assert (failed.status_code, failed.json()) == (
        500,
        {"error": "the server failed; the terminal that it runs in says why"},
    )
    assert after.status_code == 200


# Who may ask


@pytest.mark.parametrize(
    ("host", "names", "asked", "is_own"),
    [
        ("127.0.0.1", (), "localhost", True),
        ("127.0.0.1", (), "LOCALHOST:8501", True),
        ("127.0.0.1", (), "127.0.0.1:8501", True),
        ("127.0.0.1", (), "[::1]:8501", True),
        ("127.0.0.1", (), "evil.example", False),
        ("127.0.0.1", (), "localhost.evil.example", False),
        ("127.0.0.1", (), "192.168.1.5", False),
        ("127.0.0.1", (), "[", False),
        ("127.0.0.1", (), "", False),
        ("127.0.0.1", ("emotions.example.org",), "emotions.example.org", True),
        ("192.168.1.5", (), "192.168.1.5:8501", True),
        ("192.168.1.5", (), "192.168.1.6:8501", False),
        ("0.0.0.0", (), "192.168.1.6:8501", True),
        ("0.0.0.0", (), "evil.example", False),
        ("::", (), "[fe80::1]:8501", True),
    ],
)
def test_a_foreign_host_is_refused(host, names, asked, is_own):
    reply = get("/", {"Host": asked}, host=host, names=names)
    assert reply.status_code == (200 if is_own else 403)
    if not is_own:
        assert reply.json()["error"].startswith("Host: expected 127.0.0.1, ")


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        (None, True),
        ("http://localhost:8501", True),
        ("https://localhost:8501", True),  # a proxy with TLS that passes the Host on
        ("http://localhost:3000", False),
        ("http://evil.example", False),
        ("null", False),
    ],
)
def test_a_foreign_origin_is_refused(origin, is_own):
    reply = post(file_of(tone()), headers={} if origin is None else {"Origin": origin})
    assert reply.status_code == (200 if is_own else 403)


@pytest.mark.parametrize("path", ["/", "/page.js", "/v1/models/emotion", "/nowhere"])
def test_every_answer_forbids_what_is_foreign(path):
    headers = get(path).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {source for sources in policy.values() for source in sources.split()} == {"'none'", "'self'", "blob:"}
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_what_is_not_there_is_told_as_json():
    assert get("/nowhere").json() == {"error": "Not Found"}
    assert get("/recognise").status_code == 405


# The page's files


def test_the_page_asks_for_its_own_files_alone():
    folder = resources.files("ser_tf.server").joinpath("page")
    page = get("/", abstention=Threshold(0.6)).text
    assert "It abstains below a probability of 0.6." in page
    assert "$" not in page
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=|https?:", page)
    for file in re.findall(r'(?:href|src)="/([^"]+)"', page):
        assert folder.joinpath(file).is_file()
        assert get(f"/{file}").content == folder.joinpath(file).read_bytes()
    served = {file.name for file in folder.iterdir()} - {"index.html"}
    assert all(get(f"/{file}").status_code == 200 for file in served)


def test_a_name_cannot_break_the_page():
    assert "<b>&lt;i&gt;</b>" in get("/", name="<i>").text


# Starting


def test_the_server_needs_no_tensorflow():
    code = "import sys, ser_tf.server.app, ser_tf.server.running; print('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_a_port_in_use_is_told():
    with reserve("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"^port: 127\.0\.0\.1:{port} cannot be used: Address already in use; "):
            reserve("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "problem"),
    [
        ("127.0.0.1", 65_536, "^port: expected 0 to 65535"),
        ("127.0.0.1", -1, "^port: expected 0 to 65535"),
        ("nowhere.invalid", 0, "^host: expected an address or a name of this machine. Received: nowhere.invalid"),
        ("203.0.113.1", 0, "^port: 203.0.113.1:0 cannot be used"),  # an address that no machine has
    ],
)
def test_an_address_that_cannot_be_is_refused(host, port, problem):
    with pytest.raises(UserError, match=problem):
        reserve(host, port)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (None, "emotion"),
        ("exports/s3", "s3"),
        ("exports/s3/", "s3"),
        ("exports/s3/12", "s3"),
        ("crema_d", "crema_d"),
        ("m/x.onnx", "x"),
    ],
)
def test_a_model_is_called_after_its_folder(model, name):
    assert model_name(model) == name
