"""Names of models and bundles: paths, aliases, the Hugging Face cache, plug-ins, and the defaults."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
