"""What may be meant by a name that leads nowhere: names of other programs lack our schemes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath

from atv_local.errors import AtvError
from atv_local.names.forms import FILES, exists
from atv_local.names.schemes import HUB, schemes, store
from atv_local.names.stores import Kind

_HUB = re.compile(r"(?:hf:/*)?(?:(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)?", re.IGNORECASE)
_REPOSITORY = re.compile(r"([^/:\s]+/[^/:\s]+)(?::([^/:\s]+))?")
_FILE = re.compile(r"([^/:\s]+/[^/:\s]+)(?:/(?:resolve|blob|raw|tree)/[^/]+)?(?:/([^?#]+))?(?:[?#].*)?")
"""A file of a repository, as in the address of its page or of its download."""


def hint(name: str, kind: Kind | None) -> str:
    """`; did you mean ...?` with names that may be meant, or another remedy; empty if none is known."""
    if kind == "bundle" and "," in name and all(exists(part.strip()) for part in name.split(",")):
        return "; of several bundles, name each by itself"
    found = list(dict.fromkeys([*_on_hub(name), *(_in_stores(name) if kind != "bundle" else ())]))
    return f"; did you mean {' or '.join(found)}?" if found else ""


def _on_hub(name: str) -> Iterator[str]:
    """An address, a name as other programs write it, or a bare `user/repo`."""
    rest = _HUB.sub("", name, count=1)
    match = _REPOSITORY.fullmatch(rest) or (_FILE.fullmatch(rest) if rest != name else None)
    if match is None or match[1].startswith((".", "~")) or match[1].lower().endswith(FILES):
        return
    part = PurePosixPath(match[2] or "").name
    with suppress(AtvError):
        yield f"{HUB}:{store(HUB).full_name(f'{match[1]}:{part}' if part else match[1])}"


def _in_stores(name: str) -> Iterator[str]:
    """What other stores have by this name on this machine."""
    for scheme in schemes():
        with suppress(AtvError):
            place = store(scheme)
            if scheme != HUB and place.is_available():
                full = place.full_name(name)
                if any(listed.name == full for listed in place.names()):
                    yield f"{scheme}:{full}"
