"""Middleware that checks who may send requests, and limits the size and time of their bodies."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from atv_serve.http.http_errors import Problem, problem_response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HOST = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?", re.ASCII)
_OPEN = ("/", "/health", "/page/")
"""Paths that need no key: the page has no data, and asks for the key itself."""


@dataclass(frozen=True)
class Limits:
    """Of a request's body: bytes, and seconds it may take to arrive."""

    body: int = 4 << 20
    seconds: float = 15


class Guard:
    """Refuses requests that name another host (DNS rebinding), come from another site's page, have a body where none is
    read, or lack the key.

    Args:
        hosts: names that requests may address this server by; empty allows all.
        key: the API key that `Authorization: Bearer` must give; None asks for none.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = LOOPBACK, key: str | None = None) -> None:
        self._app, self._hosts, self._key = app, frozenset(host.lower() for host in hosts), key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request with the problem, and pass others on, as an ASGI application."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        try:
            self._check(Request(scope))
        except Problem as problem:
            await problem_response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        host = request.headers.get("host", "")
        if self._hosts and _name(host) not in self._hosts:
            raise Problem(
                403,
                "the Host header does not name this server; allow it with `atv-local serve --allow-host`",
                code="host",
            )
        if request.method != "POST" and _announces_body(request):
            raise Problem(400, f"a {request.method} request has no body here; send none")
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
            raise Problem(403, "pages of other sites cannot use this server", code="origin")
        path = request.scope["path"]  # and not that of `request.url`, which is made of the Host header too
        if self._key is None or path in _OPEN or path.startswith("/page/"):
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(given.strip().encode(), self._key.encode()):
            raise Problem(
                401, "missing or wrong API key; send it as `Authorization: Bearer KEY`", code="invalid_api_key"
            )


async def read_body(request: Request, limits: Limits) -> bytes:
    """The body of a request that says it is JSON.

    Raises:
        Problem: another media type (415), too large (413), too slow (408), or cut short (400).
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise Problem(415, f"the body must be application/json, not {media[:100]!r}")
    declared = request.headers.get("content-length", "0")
    pieces, size = [], 0
    try:
        async with asyncio.timeout(limits.seconds):
            if declared.isdecimal() and int(declared[:20]) > limits.body:
                raise Problem(413, f"the body has more than {limits.body} bytes")
            async for piece in request.stream():
                size += len(piece)
                if size > limits.body:
                    raise Problem(413, f"the body has more than {limits.body} bytes")
                pieces.append(piece)
    except TimeoutError as error:
        raise Problem(408, f"the body did not arrive within {limits.seconds:g} s") from error
    except ClientDisconnect as error:
        raise Problem(400, "the body was cut short") from error
    return b"".join(pieces)


def _announces_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip("0") != ""


def _name(host: str) -> str:
    """The name in `name:port`, empty if there is anything else in it."""
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").lower() if match else ""
