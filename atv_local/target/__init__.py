"""The frozen GGUF in llama.cpp: tokens, prompts and vectors in, logits out. Knows no generator."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
