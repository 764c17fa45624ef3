"""`chat_template_kwargs` of a request, beside those of the server and of the bundle that it names."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from atv_serve.server import Server, ServerOptions
from tests.serve.clients import user
from tests.serve.listening import listening
from tests.tiny import TEMPLATE, write_gguf

TEXT = TEMPLATE + "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{{ style }}"

pytestmark = pytest.mark.filterwarnings("ignore::atv_local.target.TemplateWarning")


@pytest.fixture(scope="module")
def url(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server whose bundle was trained with a closed thinking block, and which sets another variable."""
    folder = tmp_path_factory.mktemp("served")
    bundle = shutil.copytree(tiny_bundle, folder / "closed")
    fields = {"format_version": 2, "template_variables": {"enable_thinking": False}}
    (bundle / "atv.json").write_text(json.dumps(json.loads((bundle / "atv.json").read_text()) | fields))
    model = write_gguf(folder / "thinker.gguf", template=TEXT)
    options = ServerOptions(parallel=1)
    server = Server(model, {"closed": bundle}, options, n_threads=1, template_variables={"style": "ab"})
    with listening(server) as address:
        yield address


def ask(url: str, **fields: Any) -> httpx.Response:
    body = {"messages": user("hi"), "max_tokens": 1} | fields
    return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)


def n_prompt(url: str, **fields: Any) -> int:
    answer = ask(url, **fields)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens"])


def test_the_most_particular_value_holds(url: str) -> None:
    base, closed = n_prompt(url, model="base"), n_prompt(url, model="closed")
    assert closed > base
    assert n_prompt(url, model="closed", steering=False) == closed
    assert n_prompt(url, model="base", steering={"bundle": "closed"}) == closed
    assert n_prompt(url, model="base", chat_template_kwargs={"enable_thinking": False}) == closed
    assert n_prompt(url, model="closed", chat_template_kwargs={"enable_thinking": True}) == base
    assert n_prompt(url, model="base", chat_template_kwargs={"style": "abcd"}) == base + 2
    assert n_prompt(url, model="base", chat_template_kwargs={}) == base
    assert n_prompt(url, model="base", chat_template_kwargs=None) == base


@pytest.mark.parametrize(
    "variables",
    [
        *({"enable_thinkin": False}, {"messages": []}, {"a b": 1}, {"style": "a" * 20_000}, [], "style=ab"),
        *({"enable_thinking": value} for value in ("false", "no", 0, None)),
    ],
)
def test_one_that_cannot_be_set_is_refused(url: str, variables: Any) -> None:
    answer = ask(url, chat_template_kwargs=variables)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("chat_template_kwargs")


@pytest.mark.parametrize(
    "fields",
    [
        {"enable_thinking": False},
        {"think": False},
        {"thinking": {"type": "disabled"}},
        {"reasoning": {"enabled": False}},
        {"reasoning": {"effort": "none", "exclude": True}},
        {"thinking_budget": 0},
        {"reasoning_budget": 0, "think": None},
        {"think": False, "chat_template_kwargs": {"style": "ab"}},
    ],
)
def test_what_other_servers_call_not_thinking(url: str, fields: dict[str, Any]) -> None:
    assert n_prompt(url, model="base", **fields) == n_prompt(url, model="closed")


@pytest.mark.parametrize(
    "fields", [{"think": True}, {"enable_thinking": True}, {"thinking": {"type": "enabled"}}, {"reasoning": True}]
)
def test_what_other_servers_call_thinking(url: str, fields: dict[str, Any]) -> None:
    assert n_prompt(url, model="closed", **fields) == n_prompt(url, model="base")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"think": "false"}, "think: this cannot be set here; set enable_thinking in chat_template_kwargs"),
        ({"thinking": {"type": "enabled", "budget_tokens": 99}}, "thinking: .*in chat_template_kwargs"),
        ({"reasoning": {"effort": "low"}}, "reasoning: .*in chat_template_kwargs"),
        ({"thinking_budget": 512}, "thinking_budget: .*in chat_template_kwargs"),
        ({"reasoning_budget": False}, "reasoning_budget: .*in chat_template_kwargs"),
        ({"think": True, "thinking": {"type": "disabled"}}, "think and thinking contradict each other"),
        ({"think": False, "chat_template_kwargs": {"enable_thinking": True}}, "kwargs.enable_thinking and think"),
    ],
)
def test_how_much_to_think_is_refused(url: str, fields: dict[str, Any], words: str) -> None:
    answer = ask(url, **fields)
    assert answer.status_code == 400
    assert re.search(words, answer.json()["error"]["message"]), answer.text


@pytest.mark.parametrize("fields", [{}, {"reasoning_budget": -1, "thinking": {}, "reasoning": {"effort": None}}])
def test_what_leaves_it_to_the_template(url: str, fields: dict[str, Any]) -> None:
    assert n_prompt(url, model="base", **fields) < n_prompt(url, model="closed", **fields)
