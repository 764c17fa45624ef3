"""From names of files to a server that listens, and back down when it is told to stop."""

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

import uvicorn

from atv_local.errors import UsageError
from atv_local.generator import Bundle, Generator, Precision, Provider
from atv_local.target import Model, Target
from atv_serve.http import LOOPBACK, Application, Connection, Limits, Metrics, Replies
from atv_serve.work import BASE, Context, InTurn, Pool, ServedModels

_CONNECTIONS = 512
"""Beside those of requests that are answered or wait."""
_LONGEST = 86400


@dataclass(frozen=True)
class Options:
    """How a server answers, and whom."""

    host: str = "127.0.0.1"
    port: int = 8080
    key: str | None = None
    allowed_hosts: Sequence[str] = ()
    parallel: int = 2
    waiting: int = 32
    seconds: float = 600
    max_tokens: int | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not self.loopback and not self.key:
            raise UsageError(
                f"others could use a server at {self.host}; give it a key with --api-key, or listen at 127.0.0.1"
            )
        visible = self.key and self.key.isascii() and self.key.isprintable() and self.key == self.key.strip()
        if self.key is not None and not visible:
            raise UsageError("an API key consists of visible ASCII characters, with no space at its ends")
        if not 0 < self.seconds <= _LONGEST:
            raise UsageError(f"a time limit of {self.seconds} s is not within 0 to {_LONGEST}")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def hosts(self) -> Sequence[str]:
        """Names by which requests may address it. With a key, any: what the check prevents needs the key then."""
        return () if self.key and not self.allowed_hosts else (*LOOPBACK, self.host, *self.allowed_hosts)


class Server:
    """A target, generators and a pool behind the routes. `close` it.

    Args:
        model: path of a GGUF.
        bundles: by the names that clients use.
        n_ctx: tokens of each context.

    Raises:
        ModelError, BundleError, UsageError: see `loading.load`.
    """

    def __init__(
        self,
        model: Path,
        bundles: Mapping[str, Path],
        options: Options,
        *,
        n_ctx: int | None = None,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        provider: Provider | None = None,
        precision: Precision | None = None,
    ) -> None:
        self.options = options
        if BASE in bundles:
            raise UsageError(f"a bundle cannot be named {BASE!r}: that is the model without steering")
        weights = Model(model, n_gpu_layers=n_gpu_layers)
        opened = {name: Bundle(path) for name, path in bundles.items()}
        targets: list[Target] = []
        generators: dict[str, Generator] = {}

        def context(in_turn: InTurn) -> Context:
            target = Target(weights, n_ctx=n_ctx, n_threads=n_threads, in_turn=in_turn)
            if not targets:
                for name, bundle in opened.items():
                    bundle.check_target(target.spec)
                    generators[name] = Generator(bundle, provider=provider, precision=precision)
            targets.append(target)
            return Context(target, generators)

        self.pool = Pool(context, n_contexts=options.parallel, n_waiting=options.waiting)
        self.served = ServedModels(targets[0], generators)
        metrics = Metrics()
        limit = min(options.max_tokens or self.served.n_ctx, self.served.n_ctx)
        replying = Replies(self.served, self.pool, metrics, seconds=options.seconds, max_tokens=limit)
        self.app = Application(self.served, replying, metrics, options.limits).asgi(options.hosts, options.key)

    def close(self) -> None:
        """Finish what runs, give up what waits."""
        self.pool.close()
        self.pool.join()

    def run(
        self, ready: Callable[[str], None] = lambda _: None, finishing: Callable[[int], None] = lambda _: None
    ) -> int:
        """Listen until interrupted or terminated; then finish what runs. A second signal ends it at once.

        Args:
            ready: called with the server's URL when it listens.
            finishing: called with how many requests run when it is told to stop.

        Returns:
            How many requests a second signal cut off.

        Raises:
            UsageError: it cannot listen there.
        """
        with _listening(self.options.host, self.options.port) as listener:
            server = self.uvicorn(finishing)
            host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
            ready(f"http://{host}:{listener.getsockname()[1]}")
            signals = (signal.SIGINT, signal.SIGTERM)  # uvicorn raises them again when it has ended
            before = [signal.signal(number, lambda *_: None) for number in signals]
            try:
                asyncio.run(server.serve(sockets=[listener]))
            finally:
                for number, handler in zip(signals, before, strict=True):
                    signal.signal(number, handler)
                self.close()
        return server.n_cut

    def uvicorn(self, finishing: Callable[[int], None] = lambda _: None) -> _Uvicorn:
        """What speaks HTTP."""
        config = uvicorn.Config(
            self.app,
            http=partial(Connection, self.options.limits.seconds),  # type: ignore[arg-type]  # called as a class is
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS + self.options.parallel + self.options.waiting,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(self.options.seconds) + 1,
        )
        return _Uvicorn(config, self.pool, finishing)


class _Uvicorn(uvicorn.Server):
    """Gives up waiting requests as soon as it is told to stop, so that only those that run are waited for."""

    def __init__(self, config: uvicorn.Config, pool: Pool[Context], finishing: Callable[[int], None]) -> None:
        super().__init__(config)
        self.n_cut = 0
        self._pool, self._finishing = pool, finishing

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal: stop."""
        if self.should_exit:  # the second one; what is cancelled now would each be logged with its traceback
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self.force_exit = True
            self.n_cut = max(self.n_cut, self._pool.running)  # told a third time, they may have ended
        super().handle_exit(sig, frame)
        asyncio.get_running_loop().call_soon_threadsafe(self._stop)  # not in a signal handler: it takes a lock

    def _stop(self) -> None:
        if not self._pool.closed:
            self._finishing(self._pool.running)
            self._pool.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        reason = str(error).partition(" (while")[0].partition("] ")[2] or error
        raise UsageError(f"cannot listen at {host}:{port}: {reason}; choose others with --host and --port") from error
