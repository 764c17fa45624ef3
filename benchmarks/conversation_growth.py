"""First token as a conversation grows: steered, base, and llama-cpp-python alone, which take turns.

python -m benchmarks.conversation_growth [--turns 16] [--repeats 3] [--output FILE.jsonl]

Each has a conversation of its own with the same questions, and every answer has at most 64 tokens. All keep what they
have evaluated of earlier turns as far as they can. `ahead` is steered too, and reads the last answer between turns, as
`atv-local chat` does while the user types.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import llama_cpp

import atv_local
from atv_local.answer import Conversation
from atv_local.names import embedded_model
from atv_local.vectors import Steering
from benchmarks.json_lines import append_lines, text_lines

QUESTIONS = Path(__file__).parent / "chat_prompts.txt"
N_CTX, N_TOKENS = 8192, 64
STRENGTH = 0.25
"""Lets answers stay as long as unsteered ones."""
Ask = Callable[[str], tuple[float, int]]
"""Asks the next question: milliseconds to the first token, and tokens of the conversation with the answer."""


def ours(conversation: Conversation, *, ahead: bool = False) -> Ask:
    """With one of our conversations."""

    def ask(question: str) -> tuple[float, int]:
        if ahead:
            conversation.read_ahead()
        events = list(conversation.stream(question))
        return events[0].timings_ms.first_token, conversation.engine.target.n_past

    return ask


def bare(model: llama_cpp.Llama) -> Ask:
    """With llama-cpp-python's chat completion, which reads the whole conversation and evaluates what is new."""
    messages: list[Any] = []

    def ask(question: str) -> tuple[float, int]:
        messages.append({"role": "user", "content": question})
        started, first, text = time.perf_counter(), 0.0, ""
        options: Any = {"temperature": 0, "repeat_penalty": 1.0, "max_tokens": N_TOKENS, "stream": True}
        chunks: Any = model.create_chat_completion(messages, **options)
        for chunk in chunks:
            if piece := chunk["choices"][0]["delta"].get("content"):
                first = first or 1000 * (time.perf_counter() - started)
                text += piece
        messages.append({"role": "assistant", "content": text})
        return first, model.n_tokens

    return ask


def conversations(n_turns: int) -> Iterator[dict[str, tuple[float, int]]]:
    """What each turn of one conversation takes, by way."""
    questions = text_lines(QUESTIONS)
    settings: dict[str, Any] = {"max_tokens": N_TOKENS, "steering": Steering(strength=STRENGTH, gate=0.0)}
    with (
        atv_local.load(off=True, n_ctx=N_CTX) as base,
        atv_local.load(n_ctx=N_CTX) as steered,
        atv_local.load(n_ctx=N_CTX) as ahead,
    ):
        ways = {
            "bare": bare(llama_cpp.Llama(str(embedded_model()), n_ctx=N_CTX, verbose=False)),
            "base": ours(Conversation(base, max_tokens=N_TOKENS)),
            "steered": ours(Conversation(steered, **settings)),
            "ahead": ours(Conversation(ahead, **settings), ahead=True),
        }
        for turn in range(n_turns):
            yield {name: ask(questions[turn % len(questions)]) for name, ask in ways.items()}


def main() -> None:
    """Measure and append; the times of a turn are medians over the repeats."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="append the figures to this file")
    arguments = parser.parse_args()
    found = [list(conversations(arguments.turns)) for _ in range(arguments.repeats)]
    turns = [
        {
            name: {"ms": round(statistics.median(turn[name][0] for turn in same), 1), "tokens": same[0][name][1]}
            for name in same[0]
        }
        for same in zip(*found, strict=True)
    ]
    record = {"max_tokens": N_TOKENS, "repeats": len(found), "cores": len(os.sched_getaffinity(0)), "turns": turns}
    for number, turn in enumerate(turns, start=1):
        print(number, *(f"{name} {way['ms']} ms ({way['tokens']} tokens)" for name, way in turn.items()), flush=True)
    if arguments.output:
        append_lines(arguments.output, [record])


if __name__ == "__main__":
    main()
