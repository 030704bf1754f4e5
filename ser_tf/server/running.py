"""Runs the application in this process until SIGTERM or Ctrl-C; what runs is finished first."""

import signal
import socket
import sys
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from ser_tf.errors import UserError

FINISHING_SECONDS = 120
"""How long running requests may take after SIGTERM."""
LARGEST_PORT = 65_535


def reserve(host: str, port: int) -> socket.socket:
    """Reserve the address, before a model is loaded for nothing.

    Raises:
        UserError: the port is in use, or there is no such address here.
    """
    if not 0 <= port <= LARGEST_PORT:
        raise UserError(f"port: expected 0 to {LARGEST_PORT}; 0 takes a free one. Received: port={port}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise UserError(f"host: expected an address or a name of this machine. Received: {host}") from error
    server = socket.socket(family, kind)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(address)
        server.listen()
    except OSError as error:
        server.close()
        raise UserError(
            f"port: {host}:{port} cannot be used: {error.strerror}; choose another --host or --port"
        ) from error
    return server


def model_name(model: str | None) -> str:
    """The name of a model in the addresses: that of its folder or file, as TensorFlow Serving has it."""
    if model is None:
        return "emotion"
    path = Path(model).resolve()
    if path.name.isdigit():  # a version of an export
        return path.parent.name
    return path.name.removesuffix(".onnx")


def serve(application: Starlette, listening: socket.socket, greeting: str) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Args:
        application: what answers.
        listening: what `reserve` gave.
        greeting: printed when it answers.
    """
    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=FINISHING_SECONDS,
    )
    _Server(config, greeting).run(sockets=[listening])


def end_on_sigterm() -> None:
    """End with status 0 on SIGTERM, also while the model is being loaded."""
    signal.signal(signal.SIGTERM, _end)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._greeting, flush=True)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(0)
