"""Checkpoint to bundle: ONNX graphs, verified before they are written. Needs torch and optimum."""
