"""Checkpoint to bundle: ONNX graphs, verified before they are written. Needs torch and optimum."""

import lazy_loader

import atv_local  # noqa: F401  # before ONNX Runtime, which it keeps from reporting its use

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
