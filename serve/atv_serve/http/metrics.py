"""The counters of the server, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # it is untyped; times of creation say nothing here
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("atv_requests", "Answered requests.", ["route", "status"], registry=registry)
        self.tokens = Counter("atv_tokens", "Tokens: of prompts, evaluated, written.", ["kind"], registry=registry)
        self.gated = Counter(
            "atv_gated",
            "Answers to queries that a bundle's gate decided on; of several, of the one that they fit best.",
            ["bundle", "steered"],
            registry=registry,
        )
        self.cancelled = Counter("atv_cancelled", "Requests whose client went away.", registry=registry)
        self.first = Histogram(
            "atv_first_token_seconds", "From the request to its first token.", buckets=_SECONDS, registry=registry
        )
        self.running = Gauge("atv_running", "Requests that have a context.", registry=registry)
        self.waiting = Gauge("atv_waiting", "Requests that wait for one.", registry=registry)

    def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
