"""Submits requests to the pool, and sends their answers whole or as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atv_local.errors import AtvError
from atv_serve.http.http_errors import Problem, of_error
from atv_serve.http.metrics import Metrics
from atv_serve.openai import EVENTS, JSON, ChatRequest, CompletionRequest
from atv_serve.work import (
    AnswerWork,
    Context,
    GoneError,
    Piece,
    Pool,
    PoolJob,
    PreparedRequest,
    ResponseBuilder,
    ServedModels,
    SideWork,
    UsageCounter,
)

_MANY = 64
"""Scores of a piece whose events take longer to build than other requests should wait."""

T = TypeVar("T")


class Replies:
    """Answers requests with the contexts of a pool.

    Args:
        seconds: limit for a request, waiting included.
        max_tokens: limit for one answer, and its length unless a request asks for less.
    """

    def __init__(
        self, models: ServedModels, pool: Pool[Context], metrics: Metrics, *, seconds: float, max_tokens: int
    ) -> None:
        self.pool = pool
        self._models, self._metrics = models, metrics
        self._side = SideWork(n_waiting=pool.size)
        self.max_tokens = max_tokens
        self._seconds = seconds

    async def aside(self, work: Callable[[], T]) -> T:
        """What some work returns that needs no context.

        Raises:
            AtvError: what the work raises, or why it was not done.
        """
        return await self._side.run(work, self._seconds)

    def close(self) -> None:
        """Cancel the work of `aside` that waits; wait for what runs."""
        self._side.close()

    async def all(self, request: Request, work: Callable[[Context], Generator[Any]]) -> list[Any]:
        """All items of some work.

        Raises:
            AtvError: what the work raises, or why it was not done.
        """
        job = self.pool.submit(work, seconds=self._seconds)
        async with self._stopped_with_client(request, job), aclosing(job.items()) as items:
            return [item async for item in items]

    async def reply(
        self,
        request: Request,
        body: ChatRequest | CompletionRequest,
        prepare: Callable[[ServedModels, Any, int], PreparedRequest],
    ) -> Response:
        """Prepare a request with `prepare`, and answer it.

        Raises:
            Problem: the request is invalid.
            AtvError: raised by the engine before the first token.
        """
        started = monotonic()
        self.pool.check()
        try:
            prepared = await self.aside(partial(prepare, self._models, body, self.max_tokens))
        except AtvError as error:
            raise self._problem(error, preparing=True) from error
        work = AnswerWork(prepared)
        job = self.pool.submit(
            work,
            after=work.read_ahead,
            seconds=self._seconds,
            spent=monotonic() - started,
            prefer=lambda context: context.target.n_cached(prepared.segments),
        )
        chat = isinstance(body, ChatRequest)
        builder = ResponseBuilder(self._models, prepared.model, prepared.applied, chat=chat)
        pieces = self._pieces(request, prepared, job, started)
        if not body.stream:
            async with aclosing(pieces):
                received = [piece async for piece in pieces]
            content = await self._side.complete(lambda: builder.whole(received).encode())
            self._count(builder.counts)
            return Response(content, media_type=JSON)
        first = await anext(pieces)  # an error before the first piece has a status of its own
        with_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        return _EventStream(self._events(builder, first, pieces, with_usage))

    async def _pieces(
        self, request: Request, prepared: PreparedRequest, job: PoolJob[Context], started: float
    ) -> AsyncGenerator[Piece, None]:
        first = True
        async with self._stopped_with_client(request, job), aclosing(job.items()) as items:
            async for piece in items:
                if first:
                    self._metrics.first.observe(monotonic() - started)
                    first = False
                if (gate := piece.gate) is not None:
                    bundle = self._models.bundle_names[gate.bundle] if gate.bundle else prepared.applied.bundle
                    self._metrics.gated.labels(bundle, str(gate.steered).lower()).inc()
                yield piece

    async def _events(
        self, builder: ResponseBuilder, first: Piece, pieces: AsyncGenerator[Piece, None], with_usage: bool
    ) -> AsyncGenerator[bytes, None]:
        async with aclosing(pieces):
            try:
                yield await self._built(builder, first)
                async for piece in pieces:
                    yield await self._built(builder, piece)
                if with_usage:
                    yield _event(builder.last().as_json())
                yield b"data: [DONE]\n\n"
            except AtvError as error:
                yield _event(self._problem(error).as_response().as_json())
            finally:
                self._count(builder.counts)

    async def _built(self, builder: ResponseBuilder, piece: Piece) -> bytes:
        """The events of a piece; an echoed prompt may have thousands of scores."""

        def build() -> bytes:
            return b"".join(_event(chunk.as_json()) for chunk in builder.chunks(piece))

        return await self._side.complete(build) if len(piece.scores) > _MANY else build()

    @asynccontextmanager
    async def _stopped_with_client(self, request: Request, job: PoolJob[Context]) -> AsyncGenerator[None, None]:
        """Stop the job if the client disconnects."""

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
        return of_error(error, self._models.without_paths(str(error)), preparing=preparing)

    def _count(self, counts: UsageCounter) -> None:
        for kind, n in (("prompt", counts.prompt), ("evaluated", counts.evaluated), ("written", counts.generated)):
            self._metrics.tokens.labels(kind).inc(n)


class _EventStream(Response):
    """Server-sent events, each sent as it comes.

    Not Starlette's StreamingResponse: below ASGI 2.4 it reads `receive`, which is watched here already.
    """

    media_type = EVENTS

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={"cache-control": "no-store"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # as ASGI has them
        """Send the events until they end, as an ASGI application."""
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in events:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _event(content: dict[str, Any]) -> bytes:
    """In ASCII: some clients take other characters for ends of lines."""
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"
