"""The runtime: a small language model reads each query and steers a frozen GGUF model (ATV, arXiv 2506.03426).

engine = atv_local.load("model.gguf", "bundle")
for event in engine.stream("your query"):
    print(event.text, end="")
vector = engine.vector("your query").array  # float32 [n_layer-1, n_embd]
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atv_local.bundle import Bundle
    from atv_local.conversation import Conversation
    from atv_local.engine import OFF, Engine, Event, Finish
    from atv_local.errors import AtvError
    from atv_local.generator import Generator
    from atv_local.loading import load
    from atv_local.sampling import Sampling
    from atv_local.steering import Positions, Steering
    from atv_local.target import Target
    from atv_local.vectors import TaskVector

# ONNX Runtime's builds report their use to their maker unless told otherwise before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "AtvError": "errors",
    "Bundle": "bundle",
    "Conversation": "conversation",
    "Engine": "engine",
    "Event": "engine",
    "Finish": "engine",
    "Generator": "generator",
    "OFF": "engine",
    "Positions": "steering",
    "Sampling": "sampling",
    "Steering": "steering",
    "Target": "target",
    "TaskVector": "vectors",
    "load": "loading",
}

__all__ = [
    "OFF",
    "AtvError",
    "Bundle",
    "Conversation",
    "Engine",
    "Event",
    "Finish",
    "Generator",
    "Positions",
    "Sampling",
    "Steering",
    "Target",
    "TaskVector",
    "load",
]


def __getattr__(name: str) -> Any:
    """Import on first use (PEP 562): `import atv_local` alone loads neither llama.cpp nor ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
