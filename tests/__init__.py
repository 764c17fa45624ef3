"""Tests, in folders as the packages they are of. Helpers are imported as `tests.…`."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""Of the repository."""
