"""Target and generator from disk to an engine, with everything checked that must agree."""

from __future__ import annotations

from pathlib import Path

from atv_local.bundle import Bundle
from atv_local.engine import Engine
from atv_local.generator import Generator
from atv_local.store import default_bundle, default_model
from atv_local.target import Target


def load(
    model: str | Path | None = None,
    bundle: str | Path | None = None,
    *,
    steered: bool = True,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    n_gpu_layers: int = -1,
) -> Engine:
    """An engine for a GGUF and a bundle, each the embedded default if not named.

    Args:
        model: path of a GGUF.
        bundle: folder or zip that `atv-local export` wrote.
        steered: with False no generator is loaded, and the base model answers.
        n_ctx: context size in tokens; see `Target`.
        n_threads: threads of llama.cpp; by default all cores.
        n_gpu_layers: layers to offload; -1 is all.

    Raises:
        ModelError: no such model, or one that llama.cpp cannot load or steer.
        BundleError: a damaged bundle, or one made for another target.
    """
    path = Path(model) if model else default_model()
    opened = Bundle(Path(bundle) if bundle else default_bundle()) if steered else None
    target = Target(path, n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers)
    if opened is None:
        return Engine(target)
    opened.check_target(target.spec)  # before the generator is loaded, so that the clearer error comes first
    return Engine(target, Generator(opened))
