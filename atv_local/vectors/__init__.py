"""Task vectors: their values, how they are applied, and control-vector files. Knows no model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
