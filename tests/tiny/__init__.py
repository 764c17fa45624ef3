"""Tiny models and data for tests, made in a second or two: a target, a bundle that steers it, rows of its task.

Nothing here imports torch but `backbone`, which is for tests of training.
"""

from tests.tiny.bundle import entry, write_bundle, write_told, write_variant
from tests.tiny.fit import fit
from tests.tiny.gpt2 import write_gpt2
from tests.tiny.rows import ANSWERS, BEASTS, FRUITS, write_rows
from tests.tiny.target import TEMPLATE, write_gguf

__all__ = [
    "ANSWERS",
    "BEASTS",
    "FRUITS",
    "TEMPLATE",
    "entry",
    "fit",
    "write_bundle",
    "write_gguf",
    "write_gpt2",
    "write_rows",
    "write_told",
    "write_variant",
]
