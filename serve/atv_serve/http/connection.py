"""One connection of a client: uvicorn's, but with patience that ends. Knows nothing of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

SEND_SECONDS = 30.0
"""How long a client may refuse to take more of its answer."""


class Connection(H11Protocol):
    """Hangs up on clients that do not send the head of a request, or do not take their answer."""

    def __init__(self, seconds: float, **given: Any) -> None:
        super().__init__(**given)
        self._seconds = seconds
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """A client has come."""
        super().connection_made(transport)
        self._within("head", self._seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        """It says something."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._in_time("head")
        elif "head" not in self._timers:
            self._within("head", self._seconds, self.transport.close)

    def pause_writing(self) -> None:
        """It does not take what it is sent."""
        super().pause_writing()
        self._within("answer", SEND_SECONDS, self.transport.abort)  # closing would wait until it takes the rest

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()
        self._in_time("answer")

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        for what in list(self._timers):
            self._in_time(what)
        super().connection_lost(exc)

    def _within(self, what: str, seconds: float, hang_up: Callable[[], None]) -> None:
        self._timers[what] = self.loop.call_later(seconds, hang_up)

    def _in_time(self, what: str) -> None:
        timer = self._timers.pop(what, None)
        if timer is not None:
            timer.cancel()
