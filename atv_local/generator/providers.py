"""Choosing the execution provider of ONNX Runtime, and the graph that suits it.

The caller passes a trial that decides whether a session works. ONNX Runtime is imported only when needed, so that the
command line can list the providers without it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from atv_local.errors import BundleError, UsageError, first_line
from atv_local.text import one_line

Provider = Literal["cuda", "directml", "coreml", "openvino", "cpu"]
Precision = Literal["int8", "fp16", "fp32"]

PROVIDERS: dict[Provider, str] = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Our short names for ONNX Runtime's, in the order they are tried."""

SUITABLE: dict[Provider, tuple[Precision, ...]] = {
    "cuda": ("fp16", "fp32", "int8"),
    "directml": ("fp16", "fp32", "int8"),
    "coreml": ("fp16", "fp32", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "cpu": ("int8", "fp32", "fp16"),
}
"""Which graph each provider runs fastest. CPUs have int8 kernels; the others would hand those nodes back to the CPU."""


class ProviderWarning(UserWarning):
    """An execution provider that is installed does not work, and another was taken."""


@dataclass(frozen=True)
class TriedSession:
    """A session of ONNX Runtime that has passed its trial, with the provider and graph chosen for it."""

    session: Any
    provider: Provider
    precision: Precision


def available() -> list[Provider]:
    """What the installed onnxruntime offers, in the order it is tried."""
    import onnxruntime as ort

    offered = ort.get_available_providers()
    return [name for name, full in PROVIDERS.items() if full in offered]


def choose(
    graphs: Mapping[Precision, Callable[[], bytes]],
    trial: Callable[[Any], object],
    *,
    provider: Provider | None = None,
    precision: Precision | None = None,
    n_threads: int = 1,
) -> TriedSession:
    """The first provider that computes, with the graph that suits it.

    Args:
        graphs: for each precision there is, how to read its checked bytes.
        trial: runs the session and raises if it does not work.
        provider: insist on this one, with no falling back.
        precision: insist on this graph.
        n_threads: of the CPU provider.

    Raises:
        UsageError: a provider that is not installed, or a precision that the bundle lacks.
        RuntimeError: no provider can run the graph, or not the one insisted on.
    """
    offered = available()
    if provider is not None and provider not in offered:
        raise UsageError(f"the installed onnxruntime has no provider {provider!r}; it has {', '.join(offered)}")
    if precision is not None and precision not in graphs:
        raise UsageError(f"the bundle has no {precision} graph; it has {', '.join(graphs)}")
    wanted = [provider] if provider else offered
    if provider is None and set(graphs if precision is None else [precision]) == {"int8"}:
        wanted = ["cpu"]
    failures: list[str] = []
    for name in wanted:
        found = next(kind for kind in ([precision] if precision else SUITABLE[name]) if kind in graphs)
        try:
            session = open_session(graphs[found](), name, n_threads)
            trial(session)
        except BundleError:  # no other provider would load it either
            raise
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library raises bare exceptions of its own, and tokenizers panics
            failures.append(f"{name}: {_brief(error)}")
            continue
        if failures:
            warnings.warn(f"using {name}, as {'; '.join(failures)}", ProviderWarning, stacklevel=3)
        return TriedSession(session, name, found)
    raise RuntimeError("; ".join(failures))


def open_session(graph: bytes, name: Provider, n_threads: int) -> Any:
    """A session over checked bytes only: with no folder to look in, weights in other files are an error."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.log_severity_level = 4  # failures reach the user as exceptions, once
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # llama.cpp needs the cores
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    if name == "directml":
        options.enable_mem_pattern = False  # DirectML's own requirement
    providers = list(dict.fromkeys([PROVIDERS[name], PROVIDERS["cpu"]]))  # the CPU takes what the other cannot
    session = ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)  # nor print that it did
    if PROVIDERS[name] not in session.get_providers():  # it falls back by itself, and only logs it
        raise RuntimeError("it is installed, but its libraries or its device are missing")
    session._model_bytes = None  # kept to open the session again for other providers, which we never ask for
    return session


def _brief(error: BaseException) -> str:
    """The first line of what a library says, without its own codes in front."""
    return one_line(first_line(error).rpartition(" : ")[2])
