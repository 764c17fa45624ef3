"""From a checked request to pieces of an answer, in a pool of contexts. Knows nothing of HTTP."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
