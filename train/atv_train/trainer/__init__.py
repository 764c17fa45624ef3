"""The training loop: settings, losses, state, and baselines trained by the same loop."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
