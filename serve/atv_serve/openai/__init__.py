"""Requests and responses in the shapes of OpenAI's API, as data types."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
