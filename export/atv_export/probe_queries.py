"""Queries that an export is verified with: those of the run if its data is still there."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from atv_local.data import Row, read_row_files
from atv_local.errors import AtvError, DataError
from atv_local.generator import Spec
from atv_local.target import TargetFile
from atv_train import Example
from atv_train.run_folder import read_run_record
from atv_train.vector_sources import GeneratorModule

N_QUERIES, N_PROMPTS, MAX_PROMPT = 128, 12, 512
"""Queries against PyTorch, prompts for the target's logits, and tokens of such a prompt."""


def prompt_examples(target_file: TargetFile, queries: Sequence[str]) -> list[Example]:
    """The first queries whose prompts are short, as examples without an answer.

    Raises:
        DataError: none is short.
    """
    prompts = [(text, target_file.prompts(text).tokens) for text in queries[: 10 * N_PROMPTS]]
    short = [(text, tokens) for text, tokens in prompts if len(tokens) <= MAX_PROMPT][:N_PROMPTS]
    if not short:
        raise DataError(
            f"no query makes a prompt of {MAX_PROMPT} tokens or fewer for the check through {target_file.path}"
        )
    return [Example(n, text, "", tokens, ()) for n, (text, tokens) in enumerate(short)]


def run_queries(checkpoint: Path) -> list[str]:
    """What is read for rows that a run was validated or trained on, evenly from all files; empty if they are gone."""
    try:
        job = read_run_record(checkpoint).job
        (files,) = read_row_files(job.valid or job.data, columns=job.columns, skip_bad_rows=job.skip_bad_rows)
    except AtvError:
        return []
    spread = [
        job.worded.of_row(row)[0]
        for rows in zip_longest(*(_evenly(file.rows) for file in files))
        for row in rows
        if row
    ]
    return list(dict.fromkeys(spread))


def _evenly(rows: Sequence[Row]) -> Sequence[Row]:
    """At most twice `N_QUERIES` rows, from the first to the last."""
    return rows[:: max(1, len(rows) // N_QUERIES)]


@torch.no_grad()
def pooled_states(
    generator: GeneratorModule, tokenizer: PreTrainedTokenizerFast, spec: Spec, queries: Sequence[str]
) -> Tensor:
    """Pooled states [n, d_s] of queries."""
    template, limit = spec.generator.query_template, spec.generator.max_tokens
    rows = []
    for query in queries:
        text = template.replace("{query}", query)
        encoded = tokenizer([text], truncation=True, max_length=limit, return_tensors="pt")
        rows.append(generator.pooled(encoded["input_ids"], encoded["attention_mask"])[0])
    return torch.stack(rows)


@torch.no_grad()
def task_vectors(
    generator: GeneratorModule, tokenizer: PreTrainedTokenizerFast, spec: Spec, examples: Sequence[Example]
) -> Tensor:
    """Task vectors [n, n_layer-1, n_embd] of the examples' queries."""
    queries = [example.query for example in examples]
    return generator.expand(pooled_states(generator, tokenizer, spec, queries))
