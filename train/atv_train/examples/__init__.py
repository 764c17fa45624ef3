"""Rows as training examples: encoded, in wordings and batches, with warnings about the rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
