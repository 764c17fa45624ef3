"""Fields that this API does not have: which are accepted, because they ask for nothing, and what is said of others."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Any

_RENAMED = {
    "generator": "bundle",
    "steer": "steering",
    "steered": "steering",
    "off": '"steering": false',
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "max_new_tokens": "max_tokens",
    "guided_choice": "choices",
    "guided_grammar": "grammar",
    "guided_json": "response_format",
    "json_schema": "response_format",
    "add_special": "add_special_tokens",
    "format": "response_format",
} | {name: f"steering.{name}" for name in ("bundle", "strength", "layers", "positions", "query", "control_vectors")}
"""What fields of other servers, of earlier versions and in the wrong place are called here."""
_NEUTRAL: dict[str, float | bool] = {
    "repetition_penalty": 1,
    "repeat_penalty": 1,
    "typical_p": 1,
    "typical": 1,
    "tfs_z": 1,
    "tfs": 1,
    "epsilon_cutoff": 0,
    "length_penalty": 1,
    "encoder_repetition_penalty": 1,
    "top_n_sigma": -1,
    "nsigma": -1,
    "num_beams": 1,
    "best_of": 1,
    "truncate_prompt_tokens": -1,
    "skip_special_tokens": True,
    "spaces_between_special_tokens": True,
    "add_generation_prompt": True,
    "n_predict": -1,
    "num_predict": -1,
    "n_keep": -1,
}
"""Settings of other servers that are off at another value than 0 or false."""
_WITHOUT_EFFECT = frozenset(
    # details of samplers that are off
    {"mirostat_tau", "mirostat_eta", "dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"}
    | {"xtc_threshold", "repeat_last_n", "penalty_last_n", "dynatemp_exponent", "smoothing_curve", "min_keep"}
    # what is cached, and which details of the work are reported
    | {"cache_prompt", "cache_control", "cache_salt", "prompt_cache_retention", "keep_alive", "id_slot", "slot_id"}
    | {"priority", "timings_per_token", "return_progress", "reasoning_format", "continuous_usage_stats"}
    # labels
    | {"metadata", "id", "session_id", "chat_id", "conversation_id", "request_id", "user_id", "title", "timestamp"}
)
"""Fields that change no answer, whatever their value."""
_THOUGHTS = frozenset({"reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks"})
"""In a message, the thoughts before an earlier answer, which templates leave out too."""
_CONTENT = frozenset(
    {"text", "value", "parts", "input_text", "image", "images", "image_url", "image_urls", "file", "files", "file_id"}
    | {"file_ids", "file_url", "file_data", "attachment", "attachments", "document", "documents", "audio"}
    | {"audio_url", "input_audio", "video", "video_url", "input_image", "input_file"}
)
"""In a message, what other APIs have content in."""
_NESTED = "extra_body"
"""An argument of OpenAI's Python client, which is not a field."""
_CLOSE = 0.88
"""Similarity of a name to that of a field which is a mistake in writing: `max_token`, and not `min_tokens`."""
_LONGEST_LABEL = 256


def asks_for_nothing(name: str, value: Any, known: Collection[str]) -> bool:
    """Whether an unknown field of a request can be left aside: it is empty, 0, false, or has no effect on an answer.

    A name that is close to a `known` one is a mistake, whose value may be meant for that field.
    """
    if value is None or name in _WITHOUT_EFFECT or (name in _NEUTRAL and value == _NEUTRAL[name]):
        return True
    if name in _RENAMED or _NEUTRAL.get(name) is True or get_close_matches(name, known, 1, _CLOSE):
        return False
    return not value


def is_label(name: str, value: Any, known: Collection[str]) -> bool:
    """Whether an unknown field of a message can be left aside: also any number or short text, such as an id or a date.

    Lists and objects may be content, and so is what has the name of it, such as an image.
    """
    if name in _THOUGHTS or asks_for_nothing(name, value, known):
        return True
    short = isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_LABEL)
    return short and name.lower() not in _CONTENT and not get_close_matches(name, known, 1, _CLOSE)


def about_unknown(name: str, known: Collection[str]) -> str:
    """A sentence on an unknown field that is refused."""
    if name == _NESTED:
        return "unknown field; what is in it belongs into the request itself, as OpenAI's Python client does it"
    if name in _RENAMED:
        return f"unknown field; here it is {_RENAMED[name]}"
    if close := get_close_matches(name, {*known} - {name}, 1, _CLOSE):  # it may be known in another place
        return f"unknown field; did you mean {close[0]!r}?"
    return "unknown field; leave it out"
