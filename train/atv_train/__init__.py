"""Tasks to checkpoint: train a generator through the frozen, dequantised target. Needs torch and transformers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
