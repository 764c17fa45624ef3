"""JSON schemas of answers, read strictly: what a schema does not name is not written, and what cannot be guaranteed is
refused."""

from __future__ import annotations

import json
import re
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
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPPINGS_OF_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})
"""Formats that llguidance guarantees. Others are annotations, as JSON Schema has it: `path`, `binary`, `password`."""
_UNIMPLEMENTED = re.compile(r"Unimplemented keys: (.*)")
_INSTEAD = {
    "uniqueItems": "leave it out (in Pydantic, a list in place of a set), and drop what is twice in the answer",
    "propertyNames": "list the names under 'properties', or give their pattern under 'patternProperties'",
}


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
        closed = '"allOf"' not in text  # its parts must allow each other's properties
        strict = json.dumps(_strict(whole, closed))
        return LLMatcher.grammar_from_json_schema(strict, defaults=_OPTIONS)  # type: ignore[arg-type]
    except RecursionError as error:
        raise UsageError("`schema` is nested too deep; give its inner parts names under `$defs`") from error
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"`schema` is not JSON: {error}") from error


def explain_refusal(message: str) -> str:
    """Why llguidance refuses a schema, with a way out where it does not have a keyword."""
    match = _UNIMPLEMENTED.match(message)
    if match is None:
        return message
    keywords = re.findall(r'"([^"]+)"', match[1])
    instead = next((_INSTEAD[keyword] for keyword in keywords if keyword in _INSTEAD), "leave that out")
    return f"{', '.join(map(repr, keywords))} cannot be guaranteed; {instead}"


def _strict(schema: Any, closed: bool) -> Any:
    """A schema without what says nothing, and with `closed` objects."""
    if not isinstance(schema, dict):
        return schema
    found = dict(schema)
    for key in _SCHEMAS:
        if key in found:
            found[key] = _strict(found[key], closed)
    for key in _LISTS_OF_SCHEMAS:
        if isinstance(found.get(key), list):
            found[key] = [_strict(one, closed) for one in found[key]]
    for key in _MAPPINGS_OF_SCHEMAS:
        if isinstance(found.get(key), dict):
            found[key] = {name: _strict(one, closed) for name, one in found[key].items()}
    if found.get("uniqueItems") is False:
        del found["uniqueItems"]
    if isinstance(found.get("format"), str) and found["format"] not in FORMATS:
        del found["format"]
    if closed and "properties" in found and "patternProperties" not in found:
        found.setdefault("additionalProperties", False)
    return found
