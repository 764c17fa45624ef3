"""What the server adds to the Python API until the first byte of an answer, in one run.

The same queries in turn, one through each: `Engine.stream` in this process, and the server in another, over a
connection that stays open. Both have the embedded pair, all cores, and have answered before. Between two of them is a
pause, as threads of llama.cpp go on for a while after their work, and would take the other's cores.

    python -m benchmarks.serving [--queries 200] --output benchmarks/results/serving.jsonl
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import time
from pathlib import Path

import atv_local
from atv_eval.bench import spread
from benchmarks.json_lines import append_lines
from benchmarks.server_process import JSON, PATH, server
from benchmarks.tasks import load_tasks

PAUSE = 0.2
"""Seconds between two answers."""


def main() -> None:
    """Measure, print, append."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    queries = [query for task in load_tasks("test") for query, _ in task.rows][: arguments.queries]
    engine = atv_local.load()
    times: dict[str, list[float]] = {"python": [], "server": []}
    texts: dict[str, list[str]] = {"python": [], "server": []}
    with server() as served:
        connection = http.client.HTTPConnection(served.address)

        def in_python(query: str) -> str:
            started = time.perf_counter()
            events = engine.stream(query)
            text = next(events).text
            times["python"].append(1000 * (time.perf_counter() - started))
            return text + "".join(event.text for event in events)

        def through_server(query: str) -> str:
            body = json.dumps({"messages": [{"role": "user", "content": query}], "stream": True, "max_tokens": 256})
            started = time.perf_counter()
            connection.request("POST", PATH, body, JSON)
            response = connection.getresponse()
            first = response.read(1)
            times["server"].append(1000 * (time.perf_counter() - started))
            lines = (first + response.read()).decode().splitlines()
            chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
            return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])

        for number, query in enumerate([*queries[:5], *queries]):
            for name, ask in (("python", in_python), ("server", through_server))[:: 1 if number % 2 else -1]:
                time.sleep(PAUSE)
                texts[name].append(ask(query))
    for values in times.values():
        del values[:5]  # these warmed up
    added = [b - a for a, b in zip(times["python"], times["server"], strict=True)]
    record = {
        "queries": len(added),
        "threads": engine.target.n_threads,
        "first_ms": {name: spread(values)._asdict() for name, values in times.items()},
        "added_ms": spread(added)._asdict(),
        "difference_of_medians_ms": statistics.median(times["server"]) - statistics.median(times["python"]),
        "same_texts": sum(a == b for a, b in zip(texts["python"], texts["server"], strict=True)) - 5,
    }
    print(json.dumps(record, indent=1))
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
