"""Modules that give task vectors: the generator, and the baselines it has to beat."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
