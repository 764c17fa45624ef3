"""The first load of a GGUF, in a process of its own: run by `Model`, see atv_local.data.try_file."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from atv_local.data import reading, report, try_file
from atv_local.errors import AtvError, ModelError

_PART = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_MAX_CTX = 1 << 27
"""Ten times the longest context of a published model."""


def check_loadable(path: Path) -> None:
    """Raise ModelError if loading the GGUF would end this process, hang or take all memory."""
    with reading(f"the model {path}", ModelError):
        stats = [part.stat() for part in _parts(path)]
    key = "\n".join(f"{one.st_dev} {one.st_ino} {one.st_size} {one.st_mtime_ns}" for one in stats)
    failure = try_file(__name__, path, key=key, size=sum(one.st_size for one in stats))
    if failure is not None:
        sentence = f"llama.cpp cannot load {path}: {failure.reason}; download or convert it again"
        raise ModelError(failure.reason if failure.explained else sentence)


def _parts(path: Path) -> list[Path]:
    """All files of a model that is split."""
    if not (found := _PART.search(path.name)):
        return [path]
    stem, end = path.name[: found.start()], path.name[-len("-00001.gguf") :]
    return sorted(part for part in path.parent.iterdir() if part.name.startswith(stem) and part.name.endswith(end))


def _attempt(path: Path) -> None:
    from atv_local.target.model import Model
    from atv_local.target.prompt import PromptFormat
    from atv_local.target.target import Target

    model = Model(path, n_gpu_layers=0, tried=True)
    if not 1 <= model.n_ctx <= _MAX_CTX:
        raise ModelError(f"llama.cpp cannot use {path}: its context_length {model.n_ctx} is not 1 to {_MAX_CTX}")
    with suppress(AtvError):  # one that cannot be steered or prompted can be inspected
        target = Target(model, n_threads=1)
        target.evaluate(PromptFormat(target.vocabulary)("a b").tokens[:16])


if __name__ == "__main__":
    report(_attempt)
