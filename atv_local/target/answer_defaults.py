"""How an answer is written by default; apart from `sampling`, so that a command line shows it without NumPy."""

DEFAULT_MAX_TOKENS = 256
DEFAULT_TOP_P = 0.95
DEFAULT_TOP_K = 40
