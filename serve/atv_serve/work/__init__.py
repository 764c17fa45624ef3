"""Answers checked requests piece by piece, in a pool of contexts. Independent of HTTP."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
