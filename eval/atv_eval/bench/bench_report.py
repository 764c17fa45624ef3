"""The record of a benchmark as Markdown."""

from __future__ import annotations

from typing import Any

from atv_eval.markdown import table
from atv_local.text import one_line

_SIZES = {"batch": "queries"}  # what a size counts, if not tokens


def bench_markdown(record: dict[str, Any]) -> str:
    """What `run_benchmark` returned: where and on what, then ratios, then medians."""
    lines = "".join(f"- {one_line(line)}\n" for line in (*_place(record), *record["notes"]))
    parts = [f"# Cost of steering\n\n{lines}"]
    if record["ratios"]:
        head = ["part", "ratio", "size", "median", "quartiles", "pairs"]
        parts.append(table(head, [[*_cells(row), str(len(row["samples"]))] for row in record["ratios"]], 2))
    head = ["part", "of", "size", "median", "quartiles", "unit"]
    parts.append(table(head, [[*_cells(row), row["unit"]] for row in record["medians"]], 2))
    return "\n".join(parts)


def _number(value: float) -> str:
    """Three significant digits, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 99.95 else f"{value:.3g}"


def _place(record: dict[str, Any]) -> list[str]:
    machine, model, bundle = record["machine"], record["model"], record["bundle"]
    sizes = f"{model['parameters'] / 1e6:.0f}M parameters in {model['size'] / 1e6:.0f} MB"
    lines = [
        f"{model['name']}: {model['architecture']} {model['quantisation']}, {sizes}, "
        f"{model['n_layer']} layers of width {model['n_embd']}",
        f"context of {model['n_ctx']} tokens, {model['kv_bytes_per_token'] / 1e3:.1f} kB each",
        f"{machine['processor']}, {machine['threads']} threads on {machine['cpus']} cores",
        f"llama-cpp-python {machine['llama_cpp_python']}",
    ]
    if bundle:
        lines.append(f"bundle {bundle['id']}: {bundle['backbone']}, {bundle['precision']} on {bundle['provider']}")
    return lines


def _cells(row: dict[str, Any]) -> list[str]:
    size = f"{row['size']} {_SIZES.get(row['part'], 'tokens')}" if row["size"] else ""
    quartiles = f"{_number(row['low'])} to {_number(row['high'])}"
    return [row["part"], row["what"], size, _number(row["median"]), quartiles]
