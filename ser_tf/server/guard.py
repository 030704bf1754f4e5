"""Refuses requests that another site made a browser send, and forbids the page every foreign resource."""

import json
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "::1")
EVERY_ADDRESS = ("0.0.0.0", "::")
"""Of a `--host` that listens on all addresses of the machine."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=(), display-capture=()",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Passes requests on whose Host is this server and whose Origin, if a browser sent one, is its own page.

    Without the check of the Host, a foreign site whose name is made to point to 127.0.0.1 could read all answers (DNS
    rebinding). An address in digits cannot be rebound, so where the server listens on all of them, each is taken.

    Args:
        app: what answers.
        host: the address that the server listens on.
        names: other names by which browsers reach it, such as that of a proxy.
    """

    def __init__(self, app: ASGIApp, host: str, names: tuple[str, ...]) -> None:
        self._app = app
        self._takes_addresses = host in EVERY_ADDRESS
        own = (socket.gethostname(),) if self._takes_addresses else (host,)
        self._names = {name.lower() for name in (*LOOPBACK, *own, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = self._problem(Headers(scope=scope))
        refusal = Response(json.dumps({"error": problem}), 403, media_type="application/json")
        await (refusal if problem else self._app)(scope, receive, send_with_headers)

    def _problem(self, headers: Headers) -> str:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return (
                f"Host: expected {', '.join(sorted(self._names))}. Received: {', '.join(hosts) or 'none'}; start the "
                "server with --names for a further name"
            )
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in {
            f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")
        }:
            return f"Origin: expected the server's own page, at {hosts[0]}. Received: {origin}"
        return ""

    def _is_own(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:  # brackets that hold no address
            return False
        return name in self._names or (self._takes_addresses and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
