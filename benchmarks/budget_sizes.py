"""The sizes that `benchmarks.budgets` compares."""

RANKS = (1, 4, 16)
"""Of LoRA and of the expansion, and tokens of a prefix."""
SIZES = {1: (17, 26), 4: (70, 106), 16: (285, 424)}
"""By LoRA's rank: at which rank an expansion, and at how many tokens a prefix, has as many parameters."""
