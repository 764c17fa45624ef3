"""A client's connection: uvicorn's, with time limits. Knows nothing of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_SECONDS = 30.0
"""How long a client may take no more of its answer."""


class Connection(H11Protocol):
    """Closes connections whose client does not send the head of a request, or does not read its answer.

    Args:
        seconds: for the head of a request.
    """

    def __init__(self, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._seconds = seconds
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Start the time for the first request."""
        super().connection_made(transport)
        self._start_timer("head", self._seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        """Stop the time when a request has begun, restart it when one has been answered."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer("head")
        elif "head" not in self._timers:
            self._start_timer("head", self._seconds, self.transport.close)

    def pause_writing(self) -> None:
        """Start the time for reading: the client's buffers are full."""
        super().pause_writing()
        self._start_timer("answer", SEND_SECONDS, self.transport.abort)  # closing would wait until it takes the rest

    def resume_writing(self) -> None:
        """Stop the time for reading."""
        super().resume_writing()
        self._stop_timer("answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        for what in list(self._timers):
            self._stop_timer(what)
        super().connection_lost(exc)

    def _start_timer(self, what: str, seconds: float, close: Callable[[], None]) -> None:
        self._timers[what] = self.loop.call_later(seconds, close)

    def _stop_timer(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()
