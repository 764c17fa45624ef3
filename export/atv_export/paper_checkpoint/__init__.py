"""Checkpoints of the paper's authors, and how to handle their layer 0, which llama.cpp cannot steer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
