"""How many answers a batch writes at a time; apart from `batch`, so that a command line needs no llama.cpp for it."""

DEFAULT_PARALLEL = 128
MAX_PARALLEL = 254
"""llama.cpp takes 256 sequences: one is spare, see `SequenceContext`, and one has what prompts share."""
