"""Checks a bundle before its first run, in a process of its own: called by `Generator`, see atv_local.data.try_file."""

from __future__ import annotations

from atv_local.data import try_file
from atv_local.errors import BundleError
from atv_local.generator.bundle import Bundle

_TRIAL = "atv_local.generator.run_trial"  # by name: it imports what imports this module


def check_runnable(bundle: Bundle) -> None:
    """Raise BundleError if running the bundle would end this process, hang or take all memory."""
    files = bundle.manifest.files
    failure = try_file(
        _TRIAL, bundle.path, key=bundle.manifest_bytes.hex(), size=sum(entry.size for entry in files.values())
    )
    if failure is not None:
        sentence = f"the bundle {bundle.path} cannot be loaded: {failure.reason}; export it again"
        raise BundleError(failure.reason if failure.explained else sentence)
