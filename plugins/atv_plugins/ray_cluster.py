"""Answers rows on a Ray cluster: sends blocks of rows to workers with a model each, and yields results in order.

An answer is a function of its row alone, so a block that was lost with its worker is simply asked again. Needs the
same version of this package, and the model and the bundle under the same paths, on every node.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayError, RayTaskError

from atv_local.batch import Answerer, AnswerSettings, RowResult
from atv_local.data import RowRequest
from atv_local.errors import AtvError, ModelError, UsageError, first_problem
from atv_local.generator import Bundle
from atv_local.names import choose_bundles, resolve_model

BLOCK = 64
"""Rows a worker gets at a time."""

_AHEAD = 2  # blocks of a worker: while it answers one, the next is on its way
_WAITING = 4  # blocks for each worker that are drawn and not written: answered ones wait for those before them
_ATTEMPTS = 3  # of a block, whose rows may be what its workers died of
_PATIENCE = 60.0  # seconds
_KNOCK = 10.0  # seconds


class RayOptions(BaseModel):
    """What `--executor-option` takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    """The address of a running cluster; by default the one that Ray finds (`ray.init(address="auto")`)."""
    workers: int | None = Field(None, ge=1)
    """Each loads the models; by default as many as the cluster's CPUs allow."""

    @classmethod
    def of(cls, given: Mapping[str, str]) -> RayOptions:
        """The options, checked; UsageError for invalid ones."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise UsageError(f"ray's option {first_problem(error)}; it has {', '.join(cls.model_fields)}") from error


class _Worker:
    """A worker on the cluster. Its AtvErrors come back as text: Ray would wrap them in tracebacks."""

    def load(self, settings: AnswerSettings, identity: dict[str, Any]) -> str:
        """Load the models; what was wrong, or an empty string."""
        try:
            if settings.identity() != identity:
                return "the model or the bundle is not the same file as here"
            self._answerer = Answerer(settings)
        except AtvError as error:
            return str(error)
        return ""

    def answer(self, rows: list[RowRequest]) -> list[RowResult]:
        """The result of each row."""
        return list(self._answerer(rows))


@dataclass(eq=False)
class _Block:
    rows: list[RowRequest]
    results: list[RowResult] | None = None
    losses: int = 0
    """Workers that died while they had it."""


@dataclass(eq=False)
class _Member:
    """A worker, and what it was asked and has not answered."""

    actor: Any
    pending: dict[Any, _Block | None] = field(default_factory=dict)
    """By the reference to the result to be; that of loading has no block."""

    @property
    def room(self) -> int:
        """Blocks it can be given now."""
        return 0 if None in self.pending.values() else _AHEAD - len(self.pending)


def answers(
    settings: AnswerSettings,
    rows: Iterator[RowRequest],
    *,
    options: Mapping[str, str] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[RowResult]:
    """The `Executor` of the name `ray`; a few blocks of rows are drawn ahead.

    Args:
        settings: `n_threads` is also the number of CPUs a worker takes; by default all of a node.
        rows: drawn in blocks.
        options: see `RayOptions`.
        say: called with a line when a worker has died.

    Raises:
        UsageError: an invalid option, no such cluster, or none with so many CPUs.
        ModelError: a worker cannot load the models, or workers die one after the other.
    """
    chosen = RayOptions.of(options or {})
    begun_here = not ray.is_initialized()
    if begun_here:
        _connect(chosen.address)
    team = None
    try:
        n_threads, fitting = _fitting(settings.n_threads)
        team = _Team(_alike_everywhere(replace(settings, n_threads=n_threads)), chosen.workers or fitting, say)
        yield from team.run(rows)
    finally:
        if team:
            team.dismiss()
        if begun_here:
            ray.shutdown()


def _connect(address: str | None) -> None:
    try:
        host, _, port = (address or "").removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():  # Ray itself would wait for minutes where nothing listens
            socket.create_connection((host, int(port)), timeout=_KNOCK).close()
        ray.init(address=address or "auto", log_to_driver=False, logging_level=logging.ERROR)
    except (RayError, OSError, OverflowError, RuntimeError, ValueError) as error:
        where = f"Ray cluster at {address}" if address else "running Ray cluster"
        raise UsageError(f"there is no {where} ({_line(error)}); start one with: ray start --head") from error


def _alike_everywhere(settings: AnswerSettings) -> AnswerSettings:
    """The settings with nothing left to a worker: it has another current folder, and maybe another provider.

    Without a provider and a precision each worker would choose a graph that suits its machine.
    """
    model = resolve_model(settings.model).absolute()
    vectors = [(Path(path).absolute(), factor) for path, factor in settings.control_vectors]
    settings = replace(settings, model=model, control_vectors=vectors)
    chosen = [] if settings.off else choose_bundles(settings.bundle, settings.model)
    if settings.off or (vectors and chosen[0].source):  # no bundle is loaded
        return settings
    bundles = [choice.path().absolute() for choice in chosen]
    precision = settings.precision
    if not (settings.provider or precision):
        in_all = [name for name in Bundle(bundles[0]).graphs if all(name in Bundle(one).graphs for one in bundles[1:])]
        if not in_all:
            raise UsageError("the bundles have no graph of one precision; name a provider with `provider=...`")
        precision = in_all[0]
    return replace(settings, bundle=bundles, precision=precision)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _fitting(n_threads: int | None) -> tuple[int, int]:
    """Threads of a worker, and how many such workers all nodes together hold."""
    found = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    cpus = [number for number in found if number]
    n_threads = n_threads or min(cpus, default=1)
    if not (n_workers := sum(number // n_threads for number in cpus)):
        raise UsageError(f"no node of the Ray cluster has {n_threads} CPUs; the largest has {max(cpus, default=0)}")
    return n_threads, n_workers


class _Team:
    """The workers, and the blocks that are drawn and not written yet."""

    def __init__(self, settings: AnswerSettings, n_workers: int, say: Callable[[str], None]) -> None:
        self._say = say
        self._told = ray.put(settings), ray.put(settings.identity())
        self._options = {"num_cpus": settings.n_threads, "max_restarts": 0}
        self._n_workers = n_workers
        self._waiting: deque[_Block] = deque()
        """Drawn, and with no worker."""
        self._losses = 0
        self._members = [self._hire() for _ in range(n_workers)]

    def run(self, rows: Iterator[RowRequest]) -> Iterator[RowResult]:
        """The results of the rows, in order."""
        order: deque[_Block] = deque()
        blocks = iter(lambda: list(islice(rows, BLOCK)), [])
        drawn = True
        while drawn or order:
            self._give()
            while drawn and not self._waiting and len(order) < _WAITING * self._n_workers:
                if drawn := bool(block := next(blocks, [])):
                    order.append(_Block(block))
                    self._waiting.append(order[-1])
                self._give()
            if order:
                self._take()
            while order and order[0].results is not None:
                yield from order.popleft().results or ()

    def dismiss(self) -> None:
        """End all workers."""
        for member in self._members:
            ray.kill(member.actor)

    def _hire(self) -> _Member:
        actor: Any = ray.remote(_Worker).options(**self._options).remote()
        return _Member(actor, {actor.load.remote(*self._told): None})

    def _give(self) -> None:
        """Each waiting block to the worker with the least to do, if there is one with room."""
        while self._waiting:
            member = max(self._members, key=lambda member: member.room)
            if not member.room:
                return
            block = self._waiting.popleft()
            member.pending[member.actor.answer.remote(block.rows)] = block

    def _take(self) -> None:
        """Wait for one result, and take it; or find that a worker is gone."""
        member, ready = self._ready()
        try:
            found = ray.get(ready)
        except (RayActorError, NodeDiedError, ObjectLostError) as error:
            self._lose(member, error)
            return
        except RayTaskError as error:
            raise ModelError(f"a worker of the Ray cluster failed: {_line(error)}") from error
        block = member.pending.pop(ready)
        if block is not None:
            block.results, self._losses = found, 0
        elif found:
            raise ModelError(f"a worker of the Ray cluster cannot begin: {found}")

    def _ready(self) -> tuple[_Member, Any]:
        by_reference = {reference: member for member in self._members for reference in member.pending}
        while True:
            ready, _ = ray.wait(list(by_reference), timeout=_PATIENCE)
            if ready:
                return by_reference[ready[0]], ready[0]
            if not any(block for member in self._members for block in member.pending.values()):
                self._say("no worker has begun yet; are the CPUs of the Ray cluster taken?")

    def _lose(self, member: _Member, error: Exception) -> None:
        """Hire another in its place; its blocks come first. It was at work on the oldest of them."""
        ray.kill(member.actor)
        lost = [block for block in member.pending.values() if block is not None]
        self._losses += 1
        if self._losses > _ATTEMPTS * self._n_workers:
            raise ModelError(f"{self._losses} workers of the Ray cluster died one after the other: {_line(error)}")
        for block in lost[:1]:
            block.losses += 1
            if block.losses == _ATTEMPTS:
                lines = f"{block.rows[0].line} to {block.rows[-1].line}"
                raise ModelError(f"{_ATTEMPTS} workers of the Ray cluster died at lines {lines}: {_line(error)}")
        self._say("a worker of the Ray cluster died; its rows are asked again")
        self._waiting.extendleft(reversed(lost))
        self._members[self._members.index(member)] = self._hire()
