"""JSON schemas of answers, read strictly: what a schema does not name is not written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from atv_local.errors import UsageError
from atv_local.text import shown

_OPTIONS = {  # JSON as `json.dumps` writes it, or compact: some models never end white space where it may be
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "coerce_one_of": True,
}
_SCHEMAS = ("items", "additionalProperties")
"""Keywords whose value is a schema; of those below, a list or mapping of schemas."""
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "prefixItems")
_MAPPINGS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")


def schema_source(schema: Mapping[str, Any], limit: int) -> str:
    """A JSON schema as a grammar of llguidance. Objects with `properties` have no others, unless the schema allows it.

    Args:
        schema: is not changed.
        limit: most characters that it may have as JSON.

    Raises:
        UsageError: not a JSON object, or too large.
    """
    from llguidance import LLMatcher

    if not isinstance(schema, Mapping):
        raise UsageError(f"`schema` {shown(schema)} is not a JSON schema, such as {{'type': 'object'}}")
    try:
        text = json.dumps(schema, allow_nan=False)
        if len(text) > limit:
            raise UsageError(f"`schema` has {len(text)} characters, and {limit} are allowed")
        whole = json.loads(text)
        closed = whole if '"allOf"' in text else _closed(whole)  # its parts must allow each other's properties
        return LLMatcher.grammar_from_json_schema(json.dumps(closed), defaults=_OPTIONS)  # type: ignore[arg-type]
    except RecursionError as error:
        raise UsageError("`schema` is nested too deep; give its inner parts names under `$defs`") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"`schema` is not JSON: {error}") from error


def _closed(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for key in _SCHEMAS:
        if key in found:
            found[key] = _closed(found[key])
    for key in _LISTS_OF_SCHEMAS:
        if isinstance(found.get(key), list):
            found[key] = [_closed(one) for one in found[key]]
    for key in _MAPPINGS_OF_SCHEMAS:
        if isinstance(found.get(key), dict):
            found[key] = {name: _closed(one) for name, one in found[key].items()}
    if "properties" in found and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found
