"""The generator: from a query to its task vector, in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from atv_local.data import as_integer
from atv_local.errors import AtvError, BundleError, UsageError, first_line
from atv_local.generator.bundle import TOKENIZER, Bundle
from atv_local.generator.first_run import check_runnable
from atv_local.generator.gate import GATE, Gate, TaskScore, read_gate
from atv_local.generator.graph_check import check_graph
from atv_local.generator.native_calls import native_call
from atv_local.generator.providers import Precision, Provider, choose
from atv_local.generator.query_reader import QueryReader, Reading
from atv_local.generator.static_vector import read_static
from atv_local.vectors import ControlVector, Steering, TaskVector, mean_control_vector

T = TypeVar("T")

_VECTOR, _POOLED = "task_vector", "pooled"
"""Outputs of a graph."""


class Generator:
    """The small language model of a bundle.

    A bundle is run for the first time in a process of its own, unless `tried`.

    Args:
        bundle: an opened bundle, or the path of one.
        provider: where to compute; by default the first of `providers.PROVIDERS` that is installed and passes a trial.
        precision: which graph; by default the one that suits the provider.
        n_threads: threads of the CPU provider. They share the cores with llama.cpp, so few is fast.

    Raises:
        BundleError: a graph or tokenizer that cannot be loaded, or of another shape than the manifest says.
        UsageError: a provider that is not installed, or a precision that the bundle lacks.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        *,
        provider: Provider | None = None,
        precision: Precision | None = None,
        n_threads: int = 1,
        tried: bool = False,
    ) -> None:
        n_threads = as_integer("n_threads", n_threads, 1)
        bundle = bundle if isinstance(bundle, Bundle) else Bundle(bundle)
        if bundle.written and not tried:
            check_runnable(bundle)
        spec = bundle.manifest
        self.bundle, self._pid = bundle, os.getpid()
        self.shape = (spec.target.n_layer - 1, spec.target.n_embd)
        self._n_vectors = spec.injection.n_vectors
        try:
            tokenizer = Tokenizer.from_buffer(bundle.read(TOKENIZER))
            self._reader = QueryReader(tokenizer, spec.generator.query_template, spec.generator.max_tokens)
            self._gate, self._static = read_gate(bundle), read_static(bundle)
            graphs = {kind: partial(_read_graph, bundle, name) for kind, name in bundle.graphs.items()}
            self._chosen = choose(graphs, self._trial, provider=provider, precision=precision, n_threads=n_threads)
        except (AtvError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of the tokenizers library is not an Exception
            raise BundleError(f"the bundle {bundle.path} cannot be loaded: {first_line(error)}") from error

    def __repr__(self) -> str:
        return f"Generator({self.bundle!r}, {self.precision} on {self.provider})"

    @property
    def steering(self) -> Steering:
        """Strength, layers and positions that the bundle recommends."""
        return self.bundle.manifest.steering

    @property
    def has_gate(self) -> bool:
        """Whether the bundle decides which queries it steers."""
        return self._gate is not None

    @property
    def static(self) -> TaskVector | None:
        """The static vector of the bundle, if it was trained with one."""
        return self._static

    @property
    def provider(self) -> Provider:
        """The ONNX Runtime provider that runs the graph."""
        return self._chosen.provider

    @property
    def precision(self) -> Precision:
        """Which of the bundle's graphs it runs."""
        return self._chosen.precision

    @property
    def gate(self) -> Gate | None:
        """What scores queries; None for a bundle that steers every query."""
        return self._gate

    def with_gate(self, gate: Gate) -> Generator:
        """The same generator with another gate; the two share the graph that was loaded."""
        other = copy(self)
        other._gate = gate
        return other

    def __call__(self, query: str) -> TaskVector:
        """The task vector of one query, float32 [n_layer-1, n_embd], with a prompt vector if the bundle has them.

        Words past the generator's limit are not read; `read` says where it ends.

        Raises:
            BundleError: the graph fails, or its output has another shape than the manifest says.
            UsageError: after a fork.
        """
        return self.scored(query)[0]

    def scored(self, query: str) -> tuple[TaskVector, TaskScore | None]:
        """The task vector of a query, and how well it fits the tasks of the bundle; None where that has no gate.

        Errors are those of a call.
        """
        return self._guarded(query, lambda: self._scored(self._chosen.session, query))

    def pooled(self, query: str) -> NDArray[np.float32] | None:
        """The state of the backbone that the vector of a query is made from, float32 [d_s].

        None for bundles that were exported before graphs had it. Errors are those of a call.
        """
        if _POOLED not in _outputs(self._chosen.session):
            return None
        return self._guarded(query, lambda: self._state(*self._run(self._chosen.session, query, _POOLED)))

    def _guarded(self, query: str, run: Callable[[], T]) -> T:
        if os.getpid() != self._pid:
            raise UsageError(f"the bundle {self.bundle.path} was loaded before the fork; load it in this process")
        try:
            with native_call():
                return run()
        except (BundleError, UsageError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            reason = first_line(error)
            raise BundleError(f"the bundle {self.bundle.path} cannot read {query[:40]!r}: {reason}") from error

    def control_vector(self, queries: Sequence[str], *, steering: Steering | None = None) -> ControlVector:
        """The mean vector of queries as a control vector, to steer with where the bundle is not.

        Args:
            queries: at least one.
            steering: how it is applied: strength and layers change the values, positions are recorded. By default that
                of the bundle.

        Raises:
            BundleError: as for one query.
            UsageError: no queries, or layers that the target does not have.
        """
        spec = self.bundle.manifest
        made_by = {"bundle": self.bundle.id, "precision": self.precision}
        return mean_control_vector(self, queries, spec.steering if steering is None else steering, spec.target, made_by)

    def static_vector(self, *, steering: Steering | None = None) -> ControlVector:
        """The static vector as a control vector.

        Args:
            steering: as for `control_vector`.

        Raises:
            UsageError: a bundle without one, or layers that the target does not have.
        """
        static, spec = self.static, self.bundle.manifest
        if static is None:
            raise UsageError(f"the bundle {self.bundle.path} has no static vector; train it with `static_vector=True`")
        applied = spec.steering if steering is None else steering
        made_by = {"bundle": self.bundle.id, "kind": "static"}
        return mean_control_vector(lambda _: static, ["static"], applied, spec.target, made_by)

    def read(self, query: str) -> Reading:
        """What it reads of a query: its tokens, and how far they go. Errors are those of a call."""
        return self._guarded(query, lambda: self._reader.read(query))

    def _trial(self, session: Any) -> None:
        inputs = sorted(node.name for node in session.get_inputs())
        if inputs != ["attention_mask", "input_ids"]:
            raise BundleError(f"the graph of {self.bundle.path} takes {inputs}, not attention_mask and input_ids")
        if self._gate is not None and _POOLED not in _outputs(session):
            raise BundleError(
                f"the graph of {self.bundle.path} gives no pooled state, which its gate scores; export it again"
            )
        self._scored(session, "a query")

    def _run(self, session: Any, query: str, *outputs: str) -> list[Any]:
        ids = np.array([self._reader.read(query).ids], dtype=np.int64)
        found: list[Any] = session.run(outputs, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
        return found

    def _scored(self, session: Any, query: str) -> tuple[TaskVector, TaskScore | None]:
        if self._gate is None:
            return self._vector(*self._run(session, query, _VECTOR)), None
        vector, pooled = self._run(session, query, _VECTOR, _POOLED)
        state = self._state(pooled)
        if len(state) != self._gate.width:
            raise BundleError(
                f"the {GATE} of the bundle {self.bundle.path} is for states of width {self._gate.width}, and its graph "
                f"gives {len(state)}"
            )
        return self._vector(vector), self._gate(state)

    def _state(self, output: NDArray[np.float32]) -> NDArray[np.float32]:
        if output.ndim != 2 or len(output) != 1 or output.dtype != np.float32 or not np.isfinite(output).all():
            raise BundleError(f"the graph of {self.bundle.path} gives no pooled state")
        state: NDArray[np.float32] = output[0]
        return state

    def _vector(self, output: NDArray[np.float32]) -> TaskVector:
        n_rows, n_embd = self.shape
        wanted = (1, self._n_vectors * n_rows, n_embd)
        if output.shape != wanted or output.dtype != np.float32:
            raise BundleError(
                f"the graph of {self.bundle.path} gives {output.dtype} {list(output.shape)}, not float32 {list(wanted)}"
            )
        return TaskVector(output[0, :n_rows], output[0, n_rows:] if self._n_vectors == 2 else None)


def _outputs(session: Any) -> list[str]:
    return [node.name for node in session.get_outputs()]


def _read_graph(bundle: Bundle, name: str) -> bytes:
    data = bundle.read(name)
    try:
        check_graph(data)
    except ValueError as error:
        raise BundleError(f"the bundle {bundle.path} is refused: {name}: {error}") from error
    return data
