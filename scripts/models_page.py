"""Write docs/models.md from benchmarks/results/models.jsonl. A test compares the two.

python -m scripts.models_page
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "models.jsonl", ROOT / "docs" / "models.md"
_INTRODUCTION = """# Models

This page is generated from measurements (`python -m benchmarks.models`, then `python -m scripts.models_page`); do not
edit it.

Each row is a tiny model of random weights with a real vocabulary and chat template, made with llama.cpp's own
converter. It is loaded, steered and switched off again; trained for three steps and exported with the option named in
*works*; and the logits under its vectors are compared: those of PyTorch, in which it was trained, with those of
llama.cpp, in which it answers. *cosine* is the smallest over the prompts, *same token* the share of prompts with the
same most likely token, both at the positions that the option names. Without steering all logits equal llama.cpp's own,
bit for bit.

- **works**: nothing but `-m` is needed.
- **with `--weights`**: transformers cannot read the architecture from a GGUF, so `train` and `export` also need the
  unquantised weights of the model: a folder, or its name on Hugging Face.
- **with `--positions all`**: its layers cannot continue from a cached part of a prompt.
- **with transformers 5**: transformers 4.57 does not know it, so the run is exported without `-m`.
- **runs**: it answers, and control vectors steer it, but a generator cannot be trained through it.

A quantised model of yours is checked in the same way before it is trained through: `train` compares the logits of both
programs and refuses a model that is not read the same.

"""
_HEADER = "| model | architecture | works | cosine | same token |\n| --- | --- | --- | ---: | ---: |\n"


def row(record: dict[str, Any]) -> str:
    """A line of the table."""
    how, scores = verdict(record)
    if record.get("together") not in (True, None):
        how += "; `batch` cannot evaluate its queries together"
    cosine, same = (f"{scores['cosine']:.4f}", f"{scores['agreement']:.0%}") if scores else ("", "")
    return f"| {record['name']} | {record.get('architecture', '')} | {how} | {cosine} | {same} |\n"


def verdict(record: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """How a model works, in one sentence at most, and what was measured then."""
    if "run" in record:
        return f"cannot: {reason(record['run'])}", None
    decode, everywhere = record["decode"], record["all"]
    scores = decode if "cosine" in decode else everywhere
    if "cosine" not in scores:
        return f"runs; {reason(everywhere)}", None
    options = [
        option
        for option, needed in (
            ("`--weights`", scores["weights"]),
            ("`--positions all`", scores is everywhere),
        )
        if needed
    ]
    how = f"with {' and '.join(options)}" if options else "works"
    if scores is decode and "cosine" not in everywhere:
        how += ", not with `--positions all`"
    if not record["versions"]["transformers"].startswith("4."):
        how += ", with transformers 5"
    return how, scores


def reason(problem: dict[str, str]) -> str:
    """Why not, without the way out."""
    return (problem.get("error") or problem["traceback"]).split(";")[0]


def page(results: Path = RESULTS) -> str:
    """The page as Markdown."""
    records = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    versions = sorted({f"{name} {version}" for record in records for name, version in record["versions"].items()})
    return _INTRODUCTION + _HEADER + "".join(map(row, records)) + f"\nMeasured with {', '.join(versions)}.\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
