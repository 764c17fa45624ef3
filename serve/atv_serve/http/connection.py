"""uvicorn's connection to a client, with limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_SECONDS = 30.0
"""How long a client may take no more of its answer."""


class Connection(H11Protocol):
    """Closes connections whose client does not send the head of a request, or does not read its answer.

    A client that is still sending when its answer is complete gets time to finish: closing at once would reset the
    connection, and the client would lose the answer. When there are too many connections, the oldest of those that
    wait for their client is closed.

    Args:
        seconds: for the head of a request, and for what is sent after the answer.
    """

    def __init__(self, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._seconds = seconds
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._discarding = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the time for the first request."""
        self._socket = transport
        super().connection_made(cast(asyncio.Transport, _Transport(transport, self._finish, lambda: self._discarding)))
        self._since = self.loop.time()
        self._start_timer("head", self._seconds, transport.close)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Stop the time when a request has begun, restart it when one has been answered."""
        if self._discarding:
            return
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer("head")
        elif "head" not in self._timers and not self._discarding:
            self._start_timer("head", self._seconds, self._socket.close)

    def on_response_complete(self) -> None:
        """Note when it became idle."""
        super().on_response_complete()
        self._since = self.loop.time()

    def pause_writing(self) -> None:
        """Start the time for reading: the client's buffers are full."""
        super().pause_writing()
        self._start_timer("answer", SEND_SECONDS, self._socket.abort)  # closing would wait until it takes the rest

    def resume_writing(self) -> None:
        """Stop the time for reading."""
        super().resume_writing()
        self._stop_timer("answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        for what in list(self._timers):
            self._stop_timer(what)
        super().connection_lost(exc)

    @property
    def _waits_for_client(self) -> bool:
        """Whether nothing is being done for it: no request, half of one, or one that has been answered."""
        if self.cycle is None or self.cycle.more_body:
            return True
        return self.cycle.response_complete and not self._socket.get_write_buffer_size()

    def _make_room(self) -> None:
        others = [
            each
            for each in self.connections
            if isinstance(each, Connection) and each is not self and each._waits_for_client
        ]
        if others:
            oldest = min(others, key=lambda each: each._since)
            self.connections.discard(oldest)  # now, not when the loop has told it
            oldest._socket.abort()

    def _finish(self) -> None:
        """Close, after the rest of the request has been received and thrown away."""
        if self._discarding or self.cycle is None or not self.cycle.more_body or not self.cycle.response_complete:
            self._socket.close()
            return
        self._discarding = True
        self._socket.resume_reading()
        if self._socket.can_write_eof() and not self._socket.get_write_buffer_size():
            try:
                self._socket.write_eof()
            except OSError:  # the client has already gone
                self._socket.abort()
                return
        self._start_timer("rest", self._seconds, self._socket.abort)

    def _start_timer(self, what: str, seconds: float, close: Callable[[], None]) -> None:
        self._timers[what] = self.loop.call_later(seconds, close)

    def _stop_timer(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()


class _Transport:
    """A transport with another way to close."""

    def __init__(self, transport: asyncio.Transport, close: Callable[[], None], closing: Callable[[], bool]) -> None:
        self._transport, self.close, self._closing = transport, close, closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing more may be sent."""
        return self._closing() or self._transport.is_closing()
