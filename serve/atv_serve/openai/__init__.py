"""Requests and responses in the shapes of OpenAI's API. Knows nothing of sockets or models."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
