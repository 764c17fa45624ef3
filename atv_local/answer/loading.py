"""Target and generator from disk to an engine, with everything checked that must agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atv_local.answer.engine import Engine
from atv_local.errors import UsageError
from atv_local.generator import Bundle, Generator, Precision, Provider
from atv_local.names import resolve_bundle, resolve_model
from atv_local.target import Target
from atv_local.vectors import Steering, control_vector


def load(
    model: str | Path | None = None,
    bundle: str | Path | None = None,
    *,
    steered: bool = True,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    n_gpu_layers: int = -1,
    control_vectors: Sequence[tuple[str | Path, float]] = (),
    provider: Provider | None = None,
    precision: Precision | None = None,
) -> Engine:
    """An engine for a GGUF and a bundle, each the embedded default if not named.

    Args:
        model: a GGUF: a path, or as text any name that `store.model` knows.
        bundle: a folder or zip that `atv-local export` wrote, named in the same ways.
        steered: with False no generator is loaded, and the base model answers.
        n_ctx: context size in tokens; see `Target`.
        n_threads: threads of llama.cpp; by default all cores.
        n_gpu_layers: layers to offload; -1 is all.
        control_vectors: files and factors; their sum steers every query, beside the generator of a bundle that is
            named, else instead of one.
        provider: see `Generator`; so is `precision`.

    Raises:
        NameNotFoundError: a name that leads nowhere.
        ModelError: no such model, or one that llama.cpp cannot load or steer.
        BundleError: a damaged bundle, or one made for another target.
        VectorError: a file that is no control vector, or made for a target of another shape.
        UsageError: a provider or precision that is not there.
    """
    path = resolve_model(model)
    files = [(control_vector.read(Path(file)), factor) for file, factor in control_vectors] if steered else []
    generated = steered and bool(bundle or not files)
    if (provider or precision) and not generated:
        chosen = f"`provider={provider}`" if provider else f"`precision={precision}`"
        raise UsageError(f"no generator is loaded for {chosen}; name its bundle with `bundle=...`, or leave it out")
    opened = Bundle(resolve_bundle(bundle)) if generated else None
    target = Target(path, n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers)
    for file, _ in files:
        control_vector.check_target(file, target.spec)
    static = control_vector.total(files, target.n_rows, target.n_embd) if files else None
    if opened is None:
        engine = Engine(target, static=static)
        if files:
            engine.steering = Steering(positions=control_vector.positions([file for file, _ in files]))
        return engine
    opened.check_target(target.spec)  # before the generator is loaded, so that the clearer error comes first
    return Engine(target, Generator(opened, provider=provider, precision=precision), static)
