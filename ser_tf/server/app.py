"""The routes: a page, `/recognise`, and the REST interface of TensorFlow Serving."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from html import escape
from importlib import resources
from string import Template
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ser_tf.documents import LARGEST_JSON_BYTES
from ser_tf.errors import UserError, printable, quoted
from ser_tf.server import signature
from ser_tf.server.guard import Guard
from ser_tf.server.hearing import Hearing, peaks
from ser_tf.server.limits import Limits
from ser_tf.server.queue import BoundedQueue, QueueFull, QueuePlace

RETRY_AFTER_SECONDS = 2
MOST_PEAKS_PER_SECOND = 100
PAGE = {
    "style.css": "text/css",
    "page.js": "text/javascript",
    "microphone.js": "text/javascript",
    "recorder.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
Answer = TypeVar("Answer")


def application(
    hearing: Hearing,
    *,
    name: str = "emotion",
    host: str = "127.0.0.1",
    names: tuple[str, ...] = (),
    limits: Limits | None = None,
) -> Starlette:
    """The server as an ASGI application.

    Args:
        hearing: names recordings.
        name: of the model, in the addresses.
        host: the address that the server listens on.
        names: other names by which browsers reach it.
        limits: by default `Limits()`.
    """
    service = _Service(hearing, name, limits or Limits())
    model = "/v1/models/{name}"
    return Starlette(
        routes=[
            Route("/", service.page),
            *(Route(f"/{file}", _static(file, kind)) for file, kind in PAGE.items()),
            Route("/recognise", service.recognise, methods=["POST"]),
            Route(f"{model}:predict", service.predict, methods=["POST"]),
            Route(f"{model}/metadata", service.metadata),
            Route(model, service.status),
        ],
        middleware=[Middleware(Guard, host=host, names=names)],
        exception_handlers={HTTPException: _http_error, Exception: _failure},
        lifespan=service.lifespan,
    )


class _Service:
    def __init__(self, hearing: Hearing, name: str, limits: Limits) -> None:
        self._hearing, self._name, self._limits = hearing, name, limits
        self._queue = BoundedQueue(limits)
        text = resources.files("ser_tf.server").joinpath("page", "index.html").read_text(encoding="utf-8")
        values = {
            "model": printable(name),
            "emotions": json.dumps(hearing.emotions),
            "upload_bytes": str(limits.upload_bytes),
            "minutes": f"{limits.recording_seconds / 60:g}",
            "megabytes": f"{limits.upload_bytes / 1e6:g}",
            "abstention": "" if hearing.abstention is None else f"It {hearing.abstention}.",
        }
        self._page = Template(text).substitute({key: escape(value) for key, value in values.items()})

    @contextlib.asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Wait for the worker threads at the end."""
        yield
        self._queue.close()

    async def page(self, _: Request) -> Response:
        return Response(self._page, media_type="text/html")

    async def status(self, request: Request) -> Response:
        self._require_model(request)
        return _json(signature.status())

    async def metadata(self, request: Request) -> Response:
        self._require_model(request)
        return _json(signature.metadata(self._name, len(self._hearing.emotions), self._hearing.embedding_size))

    async def recognise(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].lower()
        if kind in ("multipart/form-data", "application/json"):
            return _error(
                415,
                f"body: expected the file itself. Received: {kind}; send it as curl --data-binary @clip.wav -H "
                "'Content-Type: application/octet-stream' does",
            )
        per_second = _peaks_per_second(request)

        async def work(content: bytes, place: QueuePlace) -> dict[str, Any]:
            samples = await self._queue.run(self._hearing.read, content, self._limits.recording_seconds)
            place.hold(len(content) + samples.nbytes)
            answer = await self._hearing.answer(samples, self._queue.run)
            if per_second:
                answer["peaks"] = await self._queue.run(peaks, samples, per_second)
            return answer

        return await self._respond(request, self._limits.upload_bytes, work)

    async def predict(self, request: Request) -> Response:
        self._require_model(request)
        sizes = len(self._hearing.emotions), self._hearing.embedding_size

        async def work(content: bytes, place: QueuePlace) -> dict[str, Any]:
            instances = await self._queue.run(signature.parse_instances, content, self._limits.instances)
            place.hold(len(content) + sum(instance.samples.nbytes for instance in instances))
            named = [
                instance.problem or await self._hearing.predict(instance.samples, self._queue.run)
                for instance in instances
            ]
            return {"predictions": signature.prediction_rows(named, *sizes)}

        return await self._respond(request, min(LARGEST_JSON_BYTES, self._limits.upload_bytes), work)

    async def _respond(
        self, request: Request, most_bytes: int, work: Callable[[bytes, QueuePlace], Awaitable[dict[str, Any]]]
    ) -> Response:
        """Read the body and answer it, within every limit."""
        content = None
        try:
            with self._queue.place() as place:
                async with asyncio.timeout(self._limits.answer_seconds):
                    content = await _body(request, most_bytes, place)
                    answer = await _unless_gone(request, work(content, place))
                    text = await self._queue.run(json.dumps, answer)  # hundreds of embeddings take their time
                    return Response(text, media_type="application/json")
        except UserError as error:
            return _error(400, str(error))
        except QueueFull:
            return _busy("expected fewer requests at once")
        except TimeoutError:
            limit = f"{self._limits.answer_seconds:g} s"
            if content is None:
                return _error(408, f"body: expected all of it within {limit}")
            return _busy(f"expected an answer within {limit}, which this machine could not give")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it

    def _require_model(self, request: Request) -> None:
        asked = request.path_params["name"]
        if asked != self._name:
            raise HTTPException(404, f"model: expected {self._name}, the one that is served. Received: {quoted(asked)}")


def _static(file: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    content = resources.files("ser_tf.server").joinpath("page", file).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


async def _body(request: Request, most_bytes: int, place: QueuePlace) -> bytes:
    """The body of a request, of which no more is read than it may have."""
    declared = request.headers.get("content-length", "0")
    pieces, size = [], 0
    if int(declared) <= most_bytes:
        async for piece in request.stream():
            size += len(piece)
            if size > most_bytes:
                break
            place.hold(size)
            pieces.append(piece)
        else:
            return b"".join(pieces)
    raise HTTPException(
        413, f"body: expected at most {most_bytes / 1e6:g} MB. Received: more; send a shorter recording"
    )


async def _unless_gone(request: Request, work: Awaitable[Answer]) -> Answer:
    """The result of the work, which is cancelled when its client hangs up.

    Raises:
        ClientDisconnect: it has.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _peaks_per_second(request: Request) -> int:
    asked = request.query_params.get("peaks", "0")
    if not (asked.isascii() and asked.isdigit() and len(asked) < 4 and int(asked) <= MOST_PEAKS_PER_SECOND):
        problem = f"peaks: expected a number of columns a second, at most {MOST_PEAKS_PER_SECOND}"
        raise HTTPException(400, f"{problem}. Received: {quoted(asked)}")
    return int(asked)


def _json(content: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def _error(status: int, problem: str) -> Response:
    return _json({"error": problem}, status)


def _busy(problem: str) -> Response:
    response = _error(503, f"{problem}; try again in {RETRY_AFTER_SECONDS} s")
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _error(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def _failure(_: Request, error: Exception) -> Response:
    return _error(500, "the server failed; the terminal that it runs in says why")
