"""The machine and libraries of a measurement, as values that JSON can hold."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import llama_cpp as lib
import psutil

from atv_local.target import Target

_CPUS = Path("/proc/cpuinfo")


def describe_machine(target: Target) -> dict[str, Any]:
    """The computer, and the llama.cpp that a target runs in."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "threads": target.n_threads,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "atv_local": _version("atv-local"),
        "llama_cpp_python": lib.__version__,
        "llama_cpp": lib.llama_print_system_info().decode().strip(),
        "gpu_offload": bool(lib.llama_supports_gpu_offload()),
    }


def describe_model(target: Target) -> dict[str, Any]:
    """The model, its sizes in bytes, and the context."""
    model = target.model
    return {
        "name": model.path.stem,
        "architecture": model.architecture,
        "quantisation": model.quantisation,
        "parameters": int(lib.llama_model_n_params(model.handle)),
        "size": int(lib.llama_model_size(model.handle)),
        "n_layer": model.n_layer,
        "n_embd": model.n_embd,
        "n_vocab": target.vocabulary.n_tokens,
        "n_ctx": target.n_ctx,
        "kv_bytes_per_token": kv_bytes(target),
    }


def kv_bytes(target: Target, tokens: int = 4) -> int:
    """Bytes that one more token takes in the cache, by what llama.cpp would save of it. Empties the cache."""
    sizes = []
    for length in (1, 1 + tokens):
        target.reset()
        target.prefill([0] * length)
        sizes.append(target.state_bytes())
    target.reset()
    return (sizes[1] - sizes[0]) // tokens


def resident() -> float:
    """Resident memory of this process in MiB."""
    return float(psutil.Process().memory_info().rss / (1 << 20))


def processor_name() -> str:
    """As the system calls it."""
    try:
        match = re.search(r"model name\s*:\s*(.+)", _CPUS.read_text())
    except OSError:
        match = None
    return match[1] if match else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a source tree
        return ""
