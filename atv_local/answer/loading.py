"""Target and generators from disk to an engine, with everything checked that must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

from atv_local.answer.engine import Engine
from atv_local.answer.queries import check_settings
from atv_local.data import as_path, as_template_variables
from atv_local.errors import UsageError
from atv_local.generator import Bundle, Generator, Precision, Provider
from atv_local.names import as_names, check_bundle_name, choose_bundles, choose_model, explain_defaults
from atv_local.target import Target
from atv_local.vectors import OFF, Steering, VectorSources, scaled_vectors


def load(
    model: str | Path | None = None,
    bundle: str | Path | Sequence[str | Path] | None = None,
    *,
    off: bool = False,
    n_ctx: int | None = None,
    n_threads: int | None = None,
    n_gpu_layers: int = -1,
    control_vectors: VectorSources = (),
    provider: Provider | None = None,
    precision: Precision | None = None,
    steering: Steering | None = None,
    template_variables: Mapping[str, Any] | None = None,
) -> Engine:
    """Load a target and the bundle that steers it, or several, of which each query has the one that it fits best.

    Args:
        model: the target's GGUF: a path or a name; by default `ATV_MODEL`, then the config file, then the embedded one.
            An alias for a target and its bundle names both, unless `bundle` names another.
        bundle: a path or a name; by default `ATV_BUNDLE`, then the config file, then the embedded one. Of a list, each
            query is steered by the bundle whose gate accepts it with the highest score, the first of equals; by the one
            without a gate, of which there can be one, if none accepts it; else not at all.
        off: answer with the base model, whatever else is given: a bundle, control vectors and `steering` are checked
            as far as that is quick, but not loaded, and need not fit the target.
        n_ctx: size of the context in tokens; by default 2048, or what the model was trained for if that is less.
        n_threads: threads of llama.cpp; by default all cores.
        n_gpu_layers: layers to offload; -1 is all.
        control_vectors: control-vector GGUFs, each alone or with a factor as `(path, factor)`, or in place of a path a
            `ControlVector`, or a `TaskVector` or array, which steers all tokens. Their sum steers every query, together
            with the generator if `bundle` is named, otherwise instead of one.
        provider: the execution provider of the generator; by default the first that works.
        precision: which graph of the bundle the generator runs; by default the one that suits the provider.
        steering: what answers use unless they are given another; by default that of the bundle. Of several, each has
            its own strength, layers and positions, but for those in `steering` that are not the first one's.
        template_variables: values for variables of the chat template, such as `{"enable_thinking": False}`; by default
            those that the bundle was trained with.

    Returns:
        An engine, which is a context manager.

    Raises:
        NotFoundError: a path or name for which there is nothing on this machine.
        ModelError: a model that llama.cpp cannot load or steer.
        BundleError: a damaged bundle, or one made for another target.
        VectorError: a file that is not a control vector, or one made for another target.
        UsageError: a provider or precision that is not available, sizes out of range, or values of another type.
    """
    bundles = as_names(bundle)
    for name, given in [("model", model)] * (model is not None) + [("bundle", one) for one in bundles]:
        if not (isinstance(given, str) and given == ""):  # for which there is a clearer error
            as_path(name, given)
    if not isinstance(off, bool):
        raise UsageError(f"`off` {off!r} is not True or False")
    _check_choice("provider", provider, Provider)
    _check_choice("precision", precision, Precision)
    if steering is not None:
        check_settings(steering)
    chosen_model = choose_model(model)
    template_variables = as_template_variables(template_variables)
    path = chosen_model.path()
    vectors = scaled_vectors(control_vectors)
    if off:
        for one in bundles:
            check_bundle_name(one)
        with explain_defaults(chosen_model, None):
            target = Target(path, n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers)
        return Engine(target, steering=None if steering is None else OFF, template_variables=template_variables)
    chosen = choose_bundles(bundle, model)
    if vectors and chosen[0].source:
        chosen = []  # control vectors replace a bundle that is only the default
    if (provider or precision) and not chosen:
        option = f"`provider={provider}`" if provider else f"`precision={precision}`"
        raise UsageError(f"no generator is loaded for {option}; name its bundle with `bundle=...`, or leave it out")
    paths = [one.path() for one in chosen]
    first = chosen[0] if chosen else None
    with ThreadPoolExecutor(max_workers=1) as beside, explain_defaults(chosen_model, first):
        opened = [Bundle(one) for one in paths]
        # while the target is loaded, but what is wrong with that, or does not fit it, is said first
        loading = [beside.submit(Generator, one, provider=provider, precision=precision) for one in opened]
        target = Target(path, n_ctx=n_ctx, n_threads=n_threads, n_gpu_layers=n_gpu_layers)
        for scaled in vectors:
            scaled.vector.check_target(target.spec)
        for loaded in opened:
            loaded.check_target(target.spec)
        generators = [one.result() for one in loading]
    return Engine(target, generators, vectors, steering=steering, template_variables=template_variables)


def _check_choice(name: str, value: object, choices: object) -> None:
    known = get_args(choices)
    if value is not None and not (isinstance(value, str) and value in known):
        raise UsageError(f"`{name}` {value!r} is not one of {', '.join(known)}")
