"""The target in PyTorch: the GGUF, dequantised, and task vectors added to its hidden states."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
