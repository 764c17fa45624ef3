"""Checkpoint to bundle: ONNX graphs, verified before they are written. Needs torch and optimum."""

import atv_local  # noqa: F401  # before ONNX Runtime, which it keeps from reporting its use
