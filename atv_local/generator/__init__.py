"""The bundle and its generator in ONNX Runtime: a query in, a task vector out. Knows no target."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
