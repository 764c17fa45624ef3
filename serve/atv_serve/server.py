"""Loads the model and bundles and runs the server until it is stopped."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from atv_local.data import as_max_tokens
from atv_local.errors import ModelError, UsageError
from atv_local.generator import Bundle, Generator, Precision, Provider
from atv_local.sequences import SharedContext, SharedSequence
from atv_local.target import Model, Target, context_sizes
from atv_local.vectors import ControlVector
from atv_serve.http import LOOPBACK, Application, Connection, Limits, Metrics, Replies
from atv_serve.work import Context, InTurn, Pool, ServedModels, check_bundle_ids

_CONNECTIONS = 512
"""Besides those of requests that run or wait."""
_ACCEPTED = _CONNECTIONS // 2
"""Connections accepted at a time: a new one is read before so many newer ones come that it is closed for them."""
_UNACCEPTED = 2048
"""Connections that may wait until they are accepted."""
_LONGEST = 86400
"""The largest `timeout`, in seconds: a day."""


@dataclass(frozen=True)
class ServerOptions:
    """How a server answers, and whom.

    Args:
        api_key: what clients must send as bearer token; needed for other addresses than loopback.
        allowed_hosts: names besides `host` that requests may address it by.
        parallel: requests answered at a time, each in `n_ctx` tokens of its own.
        queue: requests that may wait for one.
        timeout: seconds a request may take, waiting included.
        max_tokens: limit for one answer; by default, and with -1, the context.

    Raises:
        UsageError: an address that others can reach without a key, or a value out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str | None = None
    allowed_hosts: Sequence[str] = ()
    parallel: int = 4
    queue: int = 32
    timeout: float = 600
    max_tokens: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.loopback and not self.api_key:
            raise UsageError(
                f"`host` {self.host} can be reached from other machines; set a key with `api_key=...`, "
                "or listen at 127.0.0.1"
            )
        key = self.api_key
        if key is not None and not (key and key.isascii() and key.isprintable() and key == key.strip()):
            raise UsageError("`api_key` must be visible ASCII characters without spaces at its ends")
        if not 0 < self.timeout <= _LONGEST:
            raise UsageError(f"`timeout` {self.timeout} is not within 0 to {_LONGEST} seconds")
        if self.max_tokens is not None:
            as_max_tokens(self.max_tokens)

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> Sequence[str]:
        """Names by which requests may address it. With a key, any: the attack that the check prevents lacks the key."""
        return () if self.api_key and not self.allowed_hosts else (*LOOPBACK, self.host, *self.allowed_hosts)


class Server:
    """A target, generators and a pool of contexts behind the routes. `close` it.

    Args:
        model: path of a GGUF.
        bundles: paths of bundles by the names that clients use.
        control_vectors: control vectors by the names that clients use; a request chooses some of them.
        n_ctx: tokens of each context.
        template_variables: values for variables of the chat template; requests can set others.

    Raises:
        ModelError, BundleError, VectorError, UsageError: see `atv_local.load`.
    """

    def __init__(
        self,
        model: Path,
        bundles: Mapping[str, Path],
        options: ServerOptions,
        *,
        control_vectors: Mapping[str, Path] | None = None,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        provider: Provider | None = None,
        precision: Precision | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = options
        check_bundle_ids(bundles)
        weights = Model(model, n_gpu_layers=n_gpu_layers)
        opened = {name: Bundle(path) for name, path in bundles.items()}
        vectors = {name: ControlVector.load(path) for name, path in (control_vectors or {}).items()}
        self._shared = _shared_context(weights, options.parallel, n_ctx, n_threads)
        contexts: list[Context] = []
        generators: dict[str, Generator] = {}

        def context(in_turn: InTurn) -> Context:
            place = None if self._shared is None else SharedSequence(self._shared)
            target = Target(weights, n_ctx=n_ctx, n_threads=n_threads, in_turn=in_turn, context=place)
            if not contexts:
                for vector in vectors.values():
                    vector.check_target(target.spec)
                for name, bundle in opened.items():
                    bundle.check_target(target.spec)
                    generators[name] = Generator(bundle, provider=provider, precision=precision)
            contexts.append(Context(target, generators, template_variables))
            return contexts[-1]

        together = self._shared is not None
        try:
            self.pool = Pool(context, n_contexts=options.parallel, n_waiting=options.queue, together=together)
        except BaseException:
            if self._shared is not None:
                self._shared.close()
            raise
        first = contexts[0]
        self.models = ServedModels(first.target, generators, vectors, template_variables, first.unrouted)
        metrics = Metrics()
        limit = min(as_max_tokens(options.max_tokens or -1), self.models.n_ctx)
        self._replies = Replies(self.models, self.pool, metrics, seconds=options.timeout, max_tokens=limit)
        self.app = Application(self.models, self._replies, metrics, options.limits).asgi(options.hosts, options.api_key)

    def close(self) -> None:
        """Refuse requests that wait, and finish those that run."""
        self.pool.close()
        self.pool.join()
        if self._shared is not None:
            self._shared.close()
        self._replies.close()

    def run(
        self,
        on_listening: Callable[[str], None] = lambda _: None,
        on_stopping: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Listen until interrupted or terminated, then finish running requests. A second signal stops at once.

        Args:
            on_listening: called with the server's URL.
            on_stopping: called with the number of running requests at the first signal.

        Returns:
            The number of requests that a second signal cut off.

        Raises:
            UsageError: it cannot listen at `host` and `port`.
        """
        with _listening(self.options.host, self.options.port) as listener:
            server = self.uvicorn(on_stopping)
            host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
            on_listening(f"http://{host}:{listener.getsockname()[1]}")
            signals = (signal.SIGINT, signal.SIGTERM)  # uvicorn raises them again when it has ended
            before = [signal.signal(number, lambda *_: None) for number in signals]
            try:
                asyncio.run(server.serve(sockets=[listener]))
            finally:
                for number, handler in zip(signals, before, strict=True):
                    signal.signal(number, handler)
                self.close()
        return server.n_cut

    def uvicorn(self, on_stopping: Callable[[int], None] = lambda _: None) -> _Uvicorn:
        """The HTTP server."""
        config = uvicorn.Config(
            self.app,
            http=partial(Connection, self.options.limits.seconds),  # type: ignore[arg-type]  # called as a class is
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            backlog=_ACCEPTED,
            limit_concurrency=_CONNECTIONS + self.options.parallel + self.options.queue,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(self.options.timeout) + 1,
        )
        return _Uvicorn(config, self.pool, on_stopping)


def _shared_context(model: Model, parallel: int, n_ctx: int | None, n_threads: int | None) -> SharedContext | None:
    """A context in which requests are evaluated together; None if the architecture does not allow it."""
    n_ctx, n_threads = context_sizes(model, n_ctx, n_threads)
    try:
        return SharedContext(model, n_sequences=parallel, n_ctx=n_ctx, n_threads=n_threads)
    except ModelError as error:
        logging.getLogger(__name__).warning("requests are evaluated one after the other: %s", error)
        return None


class _Uvicorn(uvicorn.Server):
    """Refuses waiting requests as soon as it is stopped, so that only running ones are waited for."""

    def __init__(self, config: uvicorn.Config, pool: Pool[Context], on_stopping: Callable[[int], None]) -> None:
        super().__init__(config)
        self.n_cut = 0
        self._pool, self._on_stopping = pool, on_stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. asyncio accepts as many connections at a time as may wait at first; afterwards more may."""
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            listener.listen(_UNACCEPTED)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal."""
        if self.should_exit:  # the second one; uvicorn would log a traceback for each request that is cut off
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self.force_exit = True
            self.n_cut = max(self.n_cut, self._pool.running)  # at a third signal they may have ended
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._stop)  # not in a signal handler: it takes a lock

    def _stop(self) -> None:
        if not self._pool.closed:
            self._on_stopping(self._pool.running)
            self._pool.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = str(error).partition(" (while")[0].partition("] ")[2] or error
        raise UsageError(f"cannot listen at {host}:{port}: {reason}; choose another `host` or `port`") from error
