"""From a request to a job in the pool, and from its pieces to an answer: whole, or a stream of server-sent events.

Knows nothing of routes, nor of what a request asks for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from atv_local.errors import AtvError
from atv_serve.http.http_errors import Problem, of_error
from atv_serve.http.metrics import Metrics
from atv_serve.openai import ChatRequest, CompletionRequest, ReplyShape, Usage
from atv_serve.work import Context, GoneError, Job, Piece, Pool, PreparedRequest, ServedModels, answer


class Replies:
    """Answers requests with the contexts of a pool.

    Args:
        seconds: that a request may take, waiting included.
        max_tokens: that one answer may have, and has unless a request says fewer.
    """

    def __init__(
        self, served: ServedModels, pool: Pool[Context], metrics: Metrics, *, seconds: float, max_tokens: int
    ) -> None:
        self.pool = pool
        self._served, self._metrics = served, metrics
        self.max_tokens = max_tokens
        self._seconds = seconds

    async def all(self, request: Request, work: Callable[[Context], Iterator[Any]]) -> list[Any]:
        """All items of some work.

        Raises:
            AtvError: what the work raises, or why it was not done.
        """
        job = self.pool.submit(work, seconds=self._seconds)
        async with self._watched(request, job), aclosing(job.items()) as items:
            return [item async for item in items]

    async def reply(
        self,
        request: Request,
        asked: ChatRequest | CompletionRequest,
        ready: Callable[[ServedModels, Any, int], PreparedRequest],
    ) -> Response:
        """Answer a request, which `ready` makes ready.

        Raises:
            Problem: it cannot be answered.
            AtvError: so says the engine, before its first token.
        """
        begun = monotonic()
        self.pool.check()
        try:
            prepared = await to_thread.run_sync(partial(ready, self._served, asked, self.max_tokens))
        except AtvError as error:
            raise self._problem(error, preparing=True) from error
        job = self.pool.submit(
            partial(answer, prepared),
            seconds=self._seconds,
            prefer=lambda context: context.target.kept(prepared.segments),
        )
        model = self._served.default if asked.model is None else asked.model
        chat = isinstance(asked, ChatRequest)
        reply = ReplyShape(self._served.vocabulary, model, prepared.applied.as_json(), chat)
        pieces = self._pieces(request, job, begun)
        if not asked.stream:
            async with aclosing(pieces):
                found = reply.whole([piece async for piece in pieces])
            self._count(reply.usage)
            return JSONResponse(found)
        first = await anext(pieces)  # what cannot be answered is known by now, and has a status of its own
        with_usage = asked.stream_options is not None and bool(asked.stream_options.include_usage)
        return _Events(self._events(reply, first, pieces, with_usage))

    async def _pieces(self, request: Request, job: Job[Context], begun: float) -> AsyncGenerator[Piece, None]:
        first = True
        async with self._watched(request, job), aclosing(job.items()) as items:
            async for piece in items:
                if first:
                    self._metrics.first.observe(monotonic() - begun)
                    first = False
                yield piece

    async def _events(
        self, reply: ReplyShape, first: Piece, pieces: AsyncGenerator[Piece, None], with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            try:
                for chunk in reply.chunks(first):
                    yield _event(chunk)
                async for piece in pieces:
                    for chunk in reply.chunks(piece):
                        yield _event(chunk)
                if with_usage:
                    yield _event(reply.last())
                yield b"data: [DONE]\n\n"
            except AtvError as error:
                yield _event(self._problem(error).as_json())
            finally:
                self._count(reply.usage)

    @asynccontextmanager
    async def _watched(self, request: Request, job: Job[Context]) -> AsyncGenerator[None, None]:
        """Stop the job when the client goes away."""

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            self._metrics.cancelled.inc()
            job.stop(GoneError("the client went away"))

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()

    def _problem(self, error: AtvError, *, preparing: bool = False) -> Problem:
        return of_error(error, self._served.without_paths(str(error)), preparing=preparing)

    def _count(self, usage: Usage) -> None:
        for kind, count in (("prompt", usage.prompt), ("evaluated", usage.evaluated), ("written", usage.generated)):
            self._metrics.tokens.labels(kind).inc(count)


class _Events(Response):
    """Server-sent events, each sent as it comes."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has them
        """ASGI."""
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(content: dict[str, Any]) -> bytes:
    """In ASCII: some clients take other characters for ends of lines."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
