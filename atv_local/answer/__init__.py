"""One query at a time: generator and target together give an answer, or a conversation."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
