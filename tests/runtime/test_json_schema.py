"""JSON schemas as Pydantic writes them: what is only an annotation, and what cannot be guaranteed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import Base64Bytes, BaseModel, SecretStr

from atv_local.errors import UsageError
from atv_local.target.grammar import Grammar
from atv_local.target.json_schema import FORMATS


class Upload(BaseModel):
    """A property for each of some formats that are annotations, and one that is named like the keyword."""

    file: Path
    content: bytes
    password: SecretStr
    picture: Base64Bytes
    format: str


def test_what_is_only_an_annotation_is_ignored() -> None:
    source = Grammar.of_schema(Upload.model_json_schema()).source
    assert all(f'"{name}"' in source.replace("\\", "") for name in Upload.model_fields)
    bare: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "array"}, "y": {"type": "string"}}}
    annotated = json.loads(json.dumps(bare))
    annotated["properties"]["x"]["uniqueItems"] = False
    annotated["properties"]["y"]["format"] = "path"
    assert Grammar.of_schema(annotated) == Grammar.of_schema(bare)
    parts = [{"$defs": {"d": annotated}, "allOf": [annotated]}, {"$defs": {"d": bare}, "allOf": [bare]}]
    assert Grammar.of_schema(parts[0]) == Grammar.of_schema(parts[1])


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_other_formats_are_guaranteed(name: str) -> None:
    text = {"type": "string"}
    assert Grammar.of_schema({**text, "format": name}) != Grammar.of_schema(text)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, ["'uniqueItems'", "list in place of a set"]),
        ({"propertyNames": {"pattern": "^a"}}, ["'propertyNames'", "'patternProperties'"]),
        ({"not": {"type": "null"}}, ["'not'", "leave"]),
        ({"if": {}, "then": {}}, ["'if', 'then'", "leave"]),
    ],
)
def test_a_keyword_that_cannot_be_guaranteed_is_named(schema: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as refused:
        Grammar.of_schema({"type": "object", "properties": {"x": schema}})
    assert all(word in str(refused.value) for word in ["`schema`", *words])
