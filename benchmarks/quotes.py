"""Figures that the README and other pages quote, each from the one place where it was measured.

python -m benchmarks.quotes

Says which sentence of which page has other figures than benchmarks/results, and ends with 1 if any has.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from string import Formatter
from typing import Any

from atv_eval import mean_over_tasks
from benchmarks.json_lines import RESULTS, json_lines
from benchmarks.published import first_table
from benchmarks.report_cells import Hits
from benchmarks.report_formats import shares
from benchmarks.report_generation import text_hits
from benchmarks.report_peers import LLAMA, OURS, middle_runs

ROOT = Path(__file__).parent.parent
QUOTES: dict[str, list[str]] = {
    page: found["sentences"] for page, found in tomllib.loads(Path(__file__).with_suffix(".toml").read_text()).items()
}
"""Sentences of each page, with names of figures in braces."""


def figures() -> dict[str, str]:
    """All that is quoted, by name."""
    return dict(item for part in (_demo, _gate, _mixed, _speed, _texts, _formats) for item in part())


def _demo() -> Iterator[tuple[str, str]]:
    bank, tokens = printed("eval-bm25.md"), printed("eval-bm25-json.md")
    demo = printed("eval.md")
    yield "bank_classifier", demo["banking77_top10: classifier", "exact match, %"]
    yield "bank_steered", demo["banking77_top10: steered", "exact match, %"]
    yield "bank_detectable", detectable("eval-bm25.md")
    yield "bank_shots", bank["banking77_top10: k-shot", "exact match, %"]
    yield "bank_bm25", bank["banking77_top10: bm25", "exact match, %"]
    yield "json_bm25", tokens["snips_json: bm25", "slot F1, %"]
    yield "json_detectable", detectable("eval-bm25-json.md")
    yield "json_bm25_tokens", f"{int(tokens['snips_json: bm25', 'prompt tokens']):,}"
    yield "json_tokens", tokens["snips_json: steered", "prompt tokens"]


def _gate() -> Iterator[tuple[str, str]]:
    found = [record for record in json_lines(RESULTS / "gate.jsonl") if "bundle" in record][-1]["outside"]
    chat = 100 * found["chat"]["steered"]
    n_general = round(found["general"]["steered"] * found["general"]["queries"])
    yield "gate_general_steered", {0: "none", 1: "one", 2: "two"}.get(n_general, str(n_general))
    yield "gate_chat_steered", f"{chat:.1f}"
    yield "gate_chat_steered_round", f"{chat:.0f}"


def _mixed() -> Iterator[tuple[str, str]]:
    last = {record["method"]: record for record in json_lines(RESULTS / "mixed_traffic.jsonl")}
    for name, method in (("mixed", "gate"), ("router", "router"), ("lora", "lora")):
        tasks = last[method]["tasks"]
        yield f"{name}_bank", f"{100 * tasks['banking77_top10 exact']['mean']:.1f}"
        yield f"{name}_json", f"{100 * tasks['snips_json slot_f1']['mean']:.1f}"
        yield f"{name}_same", f"{100 * last[method]['same_general']:.1f}"
    yield "router_first", f"{last['router']['first_ms']['median'] / last['gate']['first_ms']['median']:.1f}"


def _speed() -> Iterator[tuple[str, str]]:
    latency = _last("latency.jsonl")
    first = latency["first_token"]
    yield "first_token", f"{first['steered / base']['median']:.2f}"
    yield "first_token_warm", f"{first['steered / base, template evaluated']['median']:.2f}"
    yield "first_token_bare", f"{first['steered / bare llama-cpp-python']['median']:.2f}"
    yield "first_token_shots", f"{first['16-shot / steered']['median']:.1f}"
    yield "decoding", f"{latency['decoding']['steered / bare loop']['median']:.2f}"
    turns = _last("conversation_growth.jsonl")["turns"][1:]
    yield "turn", f"{median(turn['ahead']['ms'] / turn['bare']['ms'] for turn in turns):.2f}"
    start = _last("startup.jsonl")
    yield "start_seconds", f"{start['seconds']['steered'] - start['seconds']['bare']:.2f}"
    yield "start_megabytes", f"{start['megabytes']['steered'] - start['megabytes']['bare']:.0f}"
    ratios = _peers()
    yield "peers_least", f"{min(ratios):.2f}"
    yield "peers_most", f"{max(ratios):.2f}"
    graphs = {record["precision"]: record for record in json_lines(RESULTS / "precision.jsonl")}
    yield "graph_speed", f"{graphs['fp32']['ms'] / graphs['int8']['ms']:.1f}"


def _peers() -> list[float]:
    """Of 8 clients under each load, ours over llama-server's tokens per second."""
    found = middle_runs(json_lines(RESULTS / "peers.jsonl"))
    loads = {load for _, clients, load in found if clients == 8}
    speeds = {
        server: [found[server, 8, load]["tokens_per_second"] for load in sorted(loads)] for server in (OURS, LLAMA)
    }
    return [ours / theirs for ours, theirs in zip(speeds[OURS], speeds[LLAMA], strict=True)]


def _formats() -> Iterator[tuple[str, str]]:
    found = shares(json_lines(RESULTS / "formats.jsonl"))
    for name, method in (("ours", "atv"), ("static", "static"), ("shots", "16-shot"), ("lora", "lora")):
        yield f"formats_{name}", f"{100 * found[method]:.0f}"


def _texts() -> Iterator[tuple[str, str]]:
    records = json_lines(RESULTS / "generation.jsonl")
    hits = text_hits(records)

    def mean(method: str) -> str:
        return f"{100 * mean_over_tasks(hits[method]).value:.1f}"

    def of_snips(tasks: Hits) -> str:
        return f"{100 * tasks['snips_json'].mean():.1f}"

    yield "texts_train", str(records[-1]["train_rows"])
    yield "texts_tests", f"{sum(map(len, hits['steered'].values())):,}"
    for name, method in (("zero", "zero-shot"), ("shots", "k-shot"), ("bm25", "bm25"), ("lora", "lora")):
        yield f"texts_{name}", mean(method)
    for method in ("steered", "static"):
        yield f"texts_{method}", mean(method)
    for method in ("bm25", "steered", "lora"):
        yield f"snips_{method}", of_snips(hits[method])


def _last(name: str) -> dict[str, Any]:
    return json_lines(RESULTS / name)[-1]


@cache
def printed(name: str) -> dict[tuple[str, str], str]:
    """The cells of the first table that a command printed, by row and column, without their intervals."""
    return {place: cell.split(" [")[0] for place, cell in first_table((RESULTS / name).read_text()).items()}


def detectable(name: str) -> str:
    """The points that `eval` said would have been found; empty if it found a difference."""
    said = re.search(r"a difference of ([\d.]+) points would have been found", (RESULTS / name).read_text())
    return said[1] if said else ""


def wrong(text: str, sentences: list[str], known: dict[str, str]) -> Iterator[str]:
    """Sentences that a page lacks, as they should be."""
    page = " ".join(text.split())
    for sentence in sentences:
        wanted = " ".join(sentence.format_map(known).split())
        if wanted not in page:
            yield wanted


def numbers_without_a_quote(text: str, sentences: list[str], known: dict[str, str]) -> list[str]:
    """Lines of prose with decimals that no quoted sentence and no written block has."""
    page = re.sub(r"```.*?```|<!-- (\w+) -->.*?<!-- /\1 -->|\([^)\s]*\)|`[^`]*`", " ", text, flags=re.DOTALL)
    page = " ".join(page.split())
    for sentence in sentences:
        plain = re.sub(r"\([^)\s]*\)|`[^`]*`", " ", sentence.format_map(known))
        page = page.replace(" ".join(plain.split()), " ")
    return re.findall(r"\S*\d\.\d\S* ?\S*", page)


def names(sentence: str) -> set[str]:
    """The figures that it quotes."""
    return {name for _, name, _, _ in Formatter().parse(sentence) if name}


def main() -> None:
    """Check all pages."""
    known, problems = figures(), 0
    for name, sentences in QUOTES.items():
        for sentence in wrong((ROOT / name).read_text(encoding="utf-8"), sentences, known):
            print(f"{name} should say: {sentence}")
            problems += 1
    raise SystemExit(bool(problems))


if __name__ == "__main__":
    main()
