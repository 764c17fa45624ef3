"""The program in which a GGUF is loaded for the first time; `check_loadable` runs it in a process of its own."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from atv_local.data import report
from atv_local.errors import AtvError, ModelError
from atv_local.target.model import Model
from atv_local.target.prompt import PromptFormat
from atv_local.target.target import Target

_MAX_CTX = 1 << 27
"""Ten times the longest context of a published model."""


def _attempt(path: Path) -> None:
    model = Model(path, n_gpu_layers=0, tried=True)
    if not 1 <= model.n_ctx <= _MAX_CTX:
        raise ModelError(f"llama.cpp cannot use {path}: its context_length {model.n_ctx} is not 1 to {_MAX_CTX}")
    with suppress(AtvError):  # one that cannot be steered or prompted can be inspected
        target = Target(model, n_threads=1)
        target.evaluate(PromptFormat(target.vocabulary)("a b").tokens[:16])


if __name__ == "__main__":
    report(_attempt)
