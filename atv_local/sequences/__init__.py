"""Many sequences of tokens in one llama.cpp context, every token under a task vector of its own or under none."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
