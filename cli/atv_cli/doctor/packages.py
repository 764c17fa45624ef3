"""The installed packages against what this program requires, and the pip commands that fix what is wrong."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import atv_local
from atv_cli.doctor.check import Check, State

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_NAME = "atv-local"
_SOURCE = Path(atv_local.__file__).parent.parent
_FOR_CONTRIBUTORS = "dev"
_ALTERNATIVES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
}
"""Distributions that provide the same package for other devices."""


def check_packages(requires: Sequence[str] | None = None) -> Iterator[Check]:
    """The packages that this program needs, then those of each extra.

    Args:
        requires: by default the requirements of the installed program.
    """
    try:
        yield Check(_NAME, State.OK, metadata.version(_NAME))
        requires = metadata.requires(_NAME) or [] if requires is None else requires
    except metadata.PackageNotFoundError:
        yield Check(_NAME, State.MISSING, f"not installed; it runs from {_SOURCE}", f"pip install {_program()}")
        return
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Check(
            "packaging", State.MISSING, "needed to compare versions", f"pip install {pip_requirement('packaging')}"
        )
        return
    needed, extras = _by_extra([Requirement(text) for text in requires])
    for requirement in needed:
        version, problem = _version(requirement)
        if problem:
            fix = f"pip install {shlex.quote(f'{_distribution(requirement.name)}{requirement.specifier}')}"
            yield Check(requirement.name, State.FAILED if version else State.MISSING, problem, fix)
        else:
            yield Check(requirement.name, State.OK, version)
    for extra, requirements in extras.items():
        yield _check_extra(extra, requirements)


def pip_requirement(package: str) -> str:
    """A package with the versions that this program requires, quoted for a shell."""
    try:
        requires = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:
        requires = []
    parts = (re.match(r"([\w.-]+)([^;]*)", text) for text in requires)  # without `packaging`, which may be broken
    versions = next((part[2].strip() for part in parts if part and part[1] == package), "")
    return shlex.quote(_distribution(package) + versions)


def reinstall_command(package: str | None = None) -> str:
    """The pip command that installs a package again, by default this program, without touching what it needs."""
    return f"pip install --force-reinstall --no-deps {pip_requirement(package) if package else _program()}"


def build_command(package: str) -> str:
    """The pip command that builds a package on this machine."""
    options = f"--force-reinstall --no-deps --no-cache-dir --no-binary {package}"
    return f"pip install {options} {pip_requirement(package)}"


def _check_extra(extra: str, requirements: Sequence[Requirement]) -> Check:
    versions = {requirement.name: _version(requirement) for requirement in requirements}
    name = f"extra [{extra}]"
    if problems := [problem for _, problem in versions.values() if problem]:
        installed = all(version for version, _ in versions.values())
        fix = f"pip install {shlex.quote(f'{_NAME}[{extra}]')}"
        return Check(name, State.FAILED if installed else State.MISSING, "; ".join(problems), fix, needed=False)
    detail = ", ".join(f"{package} {version}" for package, (version, _) in versions.items())
    return Check(name, State.OK, detail, needed=False)


def _by_extra(requirements: Sequence[Requirement]) -> tuple[list[Requirement], Mapping[str, list[Requirement]]]:
    """Requirements without an extra, and those of each extra, including those of the extras that it names."""

    def of(extra: str) -> list[Requirement]:
        selected: list[Requirement] = []
        for requirement in requirements:
            if requirement.marker and requirement.marker.evaluate({"extra": extra}) and not always(requirement):
                if requirement.name == _NAME:
                    selected += [part for inner in sorted(requirement.extras) for part in of(inner)]
                else:
                    selected.append(requirement)
        return selected

    def always(requirement: Requirement) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": ""})

    markers = " ".join(str(requirement.marker) for requirement in requirements)
    extras = dict.fromkeys(re.findall(r"""extra == ["']([\w.-]+)["']""", markers))
    return list(filter(always, requirements)), {extra: of(extra) for extra in extras if extra != _FOR_CONTRIBUTORS}


def _version(requirement: Requirement) -> tuple[str, str]:
    """The installed version and the problem with it; either may be empty."""
    name = _distribution(requirement.name)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return "", f"{requirement.name} is not installed"
    if not requirement.specifier.contains(version, prereleases=True):
        return version, f"{name} {version} is not {requirement.specifier}"
    return version if name == requirement.name else f"{version} of {name}", ""


def _distribution(package: str) -> str:
    """The installed distribution that provides a package; its own name if there is none."""
    for name in (package, *_ALTERNATIVES.get(package, ())):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        return name
    return package


def _program() -> str:
    """This program as an argument of pip: the folder of its source, if it runs from there."""
    return f"-e {shlex.quote(str(_SOURCE))}" if (_SOURCE / "pyproject.toml").is_file() else _NAME
