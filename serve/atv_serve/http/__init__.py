"""The HTTP server: connections, routes, limits and metrics. Answers come from `atv_serve.work`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
