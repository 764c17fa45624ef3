"""A chat template that loops, grows or nests without end is refused, wherever in a conversation it begins to."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.target.chat_template import ChatTemplate
from atv_local.target.template_sandbox import TemplateLimitError
from tests import tiny

LONG = "{% for a in range(100000) %}{% for b in range(100000) %}"
BOMBS = {
    "loops": LONG + "{% endfor %}{% endfor %}",
    "loops that print": LONG + "x{% endfor %}{% endfor %}",
    "range": "{{ range(10**9)|list }}",
    "text times": "{{ 'a' * 10**11 }}",
    "times text": "{{ (10**11) * 'a' }}",
    "list times": "{{ ([1] * 10**11)|length }}",
    "power": "{{ 9 ** 999999999 }}",
    "rounding": "{{ 1.5|round(60000000, 'ceil') }}",
    "centre": "{{ 'a'|center(10**11) }}",
    "method": "{{ 'a'.ljust(10**11) }}",
    "zeros": "{{ 'a'.zfill(10**11) }}",
    "format width": "{{ '%099999999999d' % 1 }}",
    "format filter": "{{ '%99999999999d'|format(1) }}",
    "format method": "{{ '{:>99999999999}'.format(1) }}",
    "format of a width": "{{ '{:>{}}'.format(1, 10**11) }}",
    "doubling": "{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "adding": "{% set n = namespace(x='ab') %}{% for a in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "nesting": "{% set n = namespace(x=[]) %}{% for a in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "nesting dicts": (
        "{% set n = namespace(x={}) %}{% for a in range(60) %}{% set n.x = dict(a=n.x, b=n.x) %}{% endfor %}{{ n.x }}"
    ),
    "replacing": (
        "{% set n = namespace(x='aa') %}{% for a in range(9) %}{% set n.x = n.x.replace('a', n.x) %}{% endfor %}"
    ),
    "joining": "{{ range(100000)|join('a' * 100000) }}",
    "output": "{% set x = 'a' * 10**6 %}{% for a in range(100000) %}{{ x }}{% endfor %}",
    "tree of macros": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(99) }}",
    "tree of loops": (
        "{% for a in [1, 2] recursive %}{% if loop.depth < 99 %}{{ loop([1, 2]) }}{% endif %}{% endfor %}"
    ),
}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One  \n & two"},
    {"role": "assistant", "content": "<b>three</b>"},
    {"role": "user", "content": "four"},
]
GOOD = {
    "tiny": tiny.TEMPLATE,
    "helpers": (
        "{%- macro part(m) -%}[{{ m.role|upper }}: {{ m['content']|trim|replace('\n', ' ') }}]{%- endmacro -%}"
        "{% set ns = namespace(n=0, all=[]) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
        "{% set ns.all = ns.all + [m.content] %}{% if loop.first %}{{ bos_token }}{% continue %}{% endif %}"
        "{{ part(m) ~ ns.n ~ loop.index0 }}{% endfor %}{{ ns.all|join(', ') }}{{ {'a': ns.all}|tojson(indent=2) }}"
        "{{ messages[1:]|selectattr('role', 'equalto', 'user')|map(attribute='content')|list }}"
        "{{ '%s and %d' % ('x', 3) }}{{ '{} {}'.format(1, 2) }}{{ 'a b'.split(' ')[-1] * 3 }}{{ (1, 2) }}"
        "{% generation %}{{ eos_token }}{% endgeneration %}{% if tools is none %}-{% endif %}{{ undefined_thing }}"
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_it_is_refused(name: str) -> None:
    with pytest.raises((TemplateLimitError, OverflowError)):  # the latter from Jinja's own sandbox
        ChatTemplate(BOMBS[name], eos="", bos="").render(MESSAGES)


def test_tracing_is_as_before() -> None:
    before = sys.gettrace()
    with pytest.raises(TemplateLimitError):
        ChatTemplate(BOMBS["doubling"], eos="", bos="").render(MESSAGES)
    assert sys.gettrace() is before


@pytest.mark.parametrize("name", GOOD)
def test_a_good_one_gives_what_it_gave(name: str) -> None:
    reference = Jinja2ChatFormatter(GOOD[name], "</s>", "<s>")
    messages: Any = MESSAGES
    assert ChatTemplate(GOOD[name], eos="</s>", bos="<s>").render(MESSAGES) == reference(messages=messages).prompt


def test_a_long_conversation_is_within_the_limits() -> None:
    messages = [{"role": role, "content": "word " * 200} for _ in range(250) for role in ("user", "assistant")]
    prompt = ChatTemplate(GOOD["tiny"], eos="", bos="").render(messages)
    assert prompt.count("word") == 200 * 500


@pytest.mark.parametrize("name", ["doubling", "text times"])
def test_the_command_says_so(tmp_path: Path, name: str) -> None:
    path = tiny.write_gguf(tmp_path / "bad.gguf", template=BOMBS[name])
    run = CliRunner().invoke(app, ["run", "-m", str(path), "--off", "-n", "1", "a"])
    assert run.exit_code == 1, run.output
    assert len(run.stderr.strip().splitlines()) == 1
    assert "chat template" in run.stderr


def test_nesting_that_the_parser_cannot_take_is_an_error(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "bad.gguf", template="{{ " + "(" * 20000 + "1" + ")" * 20000 + " }}")
    run = CliRunner().invoke(app, ["run", "-m", str(path), "--off", "-n", "1", "a"])
    assert run.exit_code == 1, run.output
    assert len(run.stderr.strip().splitlines()) == 1
