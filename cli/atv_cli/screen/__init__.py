"""What a person sees while a command runs and after it: progress, answers, tables and pictures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
