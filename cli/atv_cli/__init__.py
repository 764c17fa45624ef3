"""The command line: one file per verb; each imports what is heavy inside its command."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
