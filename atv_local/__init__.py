"""The runtime: a small language model reads each query and steers a frozen GGUF model (ATV, arXiv 2506.03426).

import atv_local

with atv_local.load() as engine:  # or atv_local.load("model.gguf", "bundle")
    print(engine.answer("your query").text)
    for event in engine.stream("your query"):
        print(event.text, end="")
    vector = engine.vector("your query")  # float32 [n_layer-1, n_embd]
"""

import os

import lazy_loader

# ONNX Runtime's builds send usage reports to their maker unless this is set before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
