"""Warnings about rows whose query the generator does not read as it is."""

from __future__ import annotations

from tokenizers import Tokenizer

from atv_local.generator import QueryReader, ReadingSummary, alike_rows
from atv_train.load_models import LoadedModels
from atv_train.training_data import TrainingData
from atv_train.vector_sources import QUERY_TEMPLATE, position_limit


def warnings_about_queries(data: TrainingData, models: LoadedModels) -> list[str]:
    """A sentence each for queries that are cut, for parts that the backbone's tokenizer does not know, and for rows
    that the generator cannot tell apart, of training and validation together."""
    tokenizer = Tokenizer.from_str(models.tokenizer.backend_tokenizer.to_str())
    reader = QueryReader(tokenizer, QUERY_TEMPLATE, models.max_query)
    rows = [(example.query, data.rows[example.index].output) for example in data.train.all]
    rows += [(example.query, data.valid_rows[example.index].output) for example in data.valid.first]
    readings = [(query, output, reader.read(query)) for query, output in rows]
    limit = position_limit(models.backbone)
    longer = "choose a `backbone` that reads more" if models.max_query == limit else "raise `max_query_tokens`"
    sentences = ReadingSummary.of((query, reading) for query, _, reading in readings).sentences(
        cut=f"{longer}, or put what decides the output first",
        unknown="choose a multilingual `backbone` if they matter",
    )
    if alike := alike_rows(readings):
        sentences.append(f"{alike}; choose a `backbone` that reads what they differ in, or give them one output")
    return sentences
