"""The model `atv` in llm: its own command line, conversations, logs and errors."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import llm
import pytest
from click.testing import CliRunner, Result
from llm import plugins
from llm.parts import AttachmentPart

from atv_local import answer as answering
from atv_local.answer.engine import Engine
from atv_local.names import add_alias
from atv_local.target.prompt import PromptFormat
from atv_local.vectors.steering import OFF
from atv_plugins import llm_model
from atv_plugins.llm_model import Atv
from tests import ROOT
from tests.tiny import TEMPLATE, write_gguf

ENTRY_POINTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["llm"]

Ask = Callable[..., Result]


@pytest.fixture(scope="module")
def cli() -> Iterator[click.Command]:
    """llm's command line as it is when no other plugin is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "LLM_LOAD_PLUGINS", "")
        from llm.cli import cli as command  # which loads plugins

        registered = not plugins.pm.is_registered(llm_model)
        if registered:
            plugins.pm.register(llm_model)
        yield command
        if registered:
            plugins.pm.unregister(llm_model)


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    """No engine outlives its test."""
    yield
    llm_model._loaded.cache_clear()


@pytest.fixture
def ask(cli: click.Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """It with a folder of its own."""
    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    monkeypatch.delenv("LLM_RAISE_ERRORS", raising=False)
    return lambda *words, stdin="": CliRunner().invoke(cli, list(words), input=stdin)


@pytest.fixture
def pair(tiny_gguf: Path, tiny_bundle: Path) -> list[str]:
    return ["-m", "atv", "-o", "model", str(tiny_gguf), "-o", "bundle", str(tiny_bundle)]


@pytest.fixture
def options(tiny_gguf: Path, tiny_bundle: Path) -> dict[str, Any]:
    return {"model": str(tiny_gguf), "bundle": str(tiny_bundle)}


def logged(ask: Ask) -> list[dict[str, Any]]:
    """What llm keeps of its answers, the last one last."""
    rows: list[dict[str, Any]] = json.loads(ask("logs", "--json", "-n", "0").stdout)
    return rows


def said(engine: Engine, *messages: tuple[str, str], **settings: Any) -> tuple[str, int]:
    """The engine's own answer to a conversation, and how many tokens its prompt had."""
    spoken = [{"role": role, "content": text} for role, text in messages]
    prompt = PromptFormat(engine.target.vocabulary).conversation(spoken)
    events = list(engine.stream(spoken[-1]["content"], prompt=prompt, **settings))
    return "".join(event.text for event in events), events[-1].prompt_tokens


# Answers.


def test_it_answers_steered_streamed_or_not(ask: Ask, pair: list[str]) -> None:
    for query, answer in (("apple 1", "a\n"), ("dog 1", "b\n")):
        for more in ([], ["--no-stream"]):
            result = ask(*pair, *more, query)
            assert (result.exit_code, result.stdout, result.stderr) == (0, answer, "")


def test_its_other_name_is_that_of_the_project(ask: Ask, pair: list[str]) -> None:
    assert ask("-m", "atv-local", *pair[2:], "apple 1").stdout == "a\n"


def test_what_was_applied_is_logged(ask: Ask, pair: list[str], engine: Engine) -> None:
    steering = ["-o", "strength", "1.5", "-o", "layers", "1-2", "-o", "positions", "last"]
    assert ask(*pair, *steering, "-o", "max_tokens", "4", "apple 1").exit_code == 0
    (row,) = logged(ask)
    assert engine.generator is not None
    told = row["response_json"]
    assert told["bundle"] == engine.generator.bundle.id
    assert (told["strength"], told["layers"], told["positions"]) == (1.5, [1, 2], "last")
    assert told["tokens"]["prompt"] == row["input_tokens"]
    assert 1 <= row["output_tokens"] == told["tokens"]["generated"] <= 4
    assert row["resolved_model"] == "tiny"
    assert (row["options_json"]["strength"], row["options_json"]["positions"]) == (1.5, "last")


def test_usage_is_told(ask: Ask, pair: list[str], engine: Engine) -> None:
    _, n_prompt = said(engine, ("user", "apple 1"))
    assert f"{n_prompt} input, 1 output" in ask(*pair, "-u", "apple 1").stderr


def test_off_is_the_base_model_and_needs_no_bundle(ask: Ask, pair: list[str], engine: Engine) -> None:
    base, _ = said(engine, ("user", "apple 1"), steering=OFF, max_tokens=8)
    assert base != "a"
    assert ask(*pair[:5], "-o", "off", "true", "-o", "max_tokens", "8", "apple 1").stdout == base + "\n"
    assert ask(*pair, "-o", "strength", "0", "-o", "max_tokens", "8", "apple 1").stdout == base + "\n"
    told = [row["response_json"] for row in logged(ask)]
    assert [(record["bundle"], record["strength"], record["layers"]) for record in told] == [(None, 0, None)] * 2


def test_a_seed_repeats_what_is_drawn(ask: Ask, pair: list[str]) -> None:
    def drawn(seed: int) -> str:
        sampling = ["-o", "temperature", "2", "-o", "top_p", "1", "-o", "top_k", "0", "-o", "seed", str(seed)]
        return ask(*pair, *sampling, "-o", "strength", "0", "-o", "max_tokens", "16", "apple 1").stdout

    assert drawn(1) == drawn(1) != drawn(2)


def test_what_a_user_has_set_for_the_model_holds_beside_other_options(
    ask: Ask, tiny_gguf: Path, tiny_bundle: Path
) -> None:
    for name, value in (("model", tiny_gguf), ("bundle", tiny_bundle), ("max_tokens", 3), ("strength", 0)):
        assert ask("models", "options", "set", "atv", name, str(value)).exit_code == 0
    assert ask("-m", "atv", "-o", "seed", "1", "apple 1").exit_code == 0
    (row,) = logged(ask)
    assert (row["output_tokens"], row["response_json"]["strength"]) == (3, 0)
    assert ask("-m", "atv", "-o", "strength", "1", "apple 1").stdout == "a\n"


# Conversations.


def test_a_turn_has_the_earlier_ones_in_its_prompt_and_its_own_words_in_its_vector(
    ask: Ask, pair: list[str], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [("system", "be brief"), ("user", "apple 1")]
    before = said(engine, *turns, max_tokens=8)
    expected = before, said(engine, *turns, ("assistant", before[0]), ("user", "dog 1"), max_tokens=8)
    queries = []
    vector = Engine.vector

    def told(self: Engine, query: str) -> Any:
        queries.append(query)
        return vector(self, query)

    monkeypatch.setattr(Engine, "vector", told)
    few = ["-o", "max_tokens", "8"]
    first = ask(*pair, *few, "-s", "be brief", "apple 1")
    second = ask("-c", *pair[2:], *few, "dog 1")
    assert (first.stdout, second.stdout) == tuple(text + "\n" for text, _ in expected)
    assert [row["input_tokens"] for row in logged(ask)] == [n_prompt for _, n_prompt in expected]
    assert queries == ["apple 1", "dog 1"]


def test_a_chat_loads_its_engine_once(ask: Ask, pair: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = answering.load

    def counted(*args: Any, **kwargs: Any) -> Engine:
        loads.append(args)
        return load(*args, **kwargs)

    monkeypatch.setattr(answering, "load", counted)
    result = ask("chat", *pair, stdin="apple 1\ndog 1\nexit\n")
    assert result.exit_code == 0, result.output
    assert [row["prompt"] for row in logged(ask)] == ["apple 1", "dog 1"]
    assert ask(*pair, "apple 1").stdout == "a\n"  # for which llm makes another model
    assert len(loads) == 1


def test_a_turn_that_had_no_answer_keeps_its_place(tmp_path: Path) -> None:
    """llm leaves an empty answer out, and templates want the roles to alternate."""
    strict = "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles') }}{% endif %}"
    template = TEMPLATE.replace("{% for m in messages %}", "{% for m in messages %}" + strict)
    path = write_gguf(tmp_path / "strict.gguf", template=template)
    messages = [llm.user("apple 1"), llm.user("dog 1")]
    asked = Atv().prompt(messages=messages, options={"model": str(path), "off": True, "max_tokens": 2})
    assert asked.usage().output


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([llm.user("apple 1"), llm.assistant("a")], "no query"),
        ([llm.Message("user", [AttachmentPart(llm.Attachment(url="x.png"))])], "has a attachment"),
    ],
)
def test_a_conversation_is_text_that_ends_in_the_users(
    options: dict[str, Any], messages: list[llm.Message], words: str
) -> None:
    with pytest.raises(llm.ModelError, match=words):
        Atv().prompt(messages=messages, options=options).text()


# Several answers.


def test_answers_that_are_read_in_turns_do_not_mix(options: dict[str, Any]) -> None:
    model = Atv()
    weak = options | {"strength": 0.1, "temperature": 2, "seed": 1, "max_tokens": 8}
    whole = [model.prompt(query, options=weak).text() for query in ("apple 1", "dog 1")]
    first, second = (iter(model.prompt(query, options=weak)) for query in ("apple 1", "dog 1"))
    begun = next(first)
    assert ["".join(second), begun + "".join(first)] == whole[::-1]


def test_threads_get_their_own_answers(options: dict[str, Any]) -> None:
    queries = ["apple 1", "dog 1", "pear 2", "cow 3"]
    answers = {}

    def answer(query: str) -> None:
        answers[query] = Atv().prompt(query, options=options).text()

    threads = [threading.Thread(target=answer, args=(query,)) for query in queries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict(zip(queries, "abab", strict=True))


def test_an_answer_nobody_reads_on_ends(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    answer = llm_model._answer

    def told(prompt: llm.Prompt, say: Callable[[str], None], unread: threading.Event) -> dict[str, Any]:
        def patiently(text: str) -> None:
            say(text)
            unread.wait(60)

        record = answer(prompt, patiently, unread)
        written.append(record["tokens"]["generated"])
        return record

    monkeypatch.setattr(llm_model, "_answer", told)
    pieces = iter(Atv().prompt("apple 1", options=options | {"strength": 0, "max_tokens": 8}))
    next(pieces)
    pieces.close()
    monkeypatch.setattr(llm_model, "_answer", answer)
    assert Atv().prompt("dog 1", options=options).text() == "b"
    assert written == [1]


# What is refused.


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("layers", "x", "`layers` 'x' is not A-B"),
        ("layers", "2-9", "steerable layers 1-3"),
        ("strength", "5000", "not within 1000"),
        ("positions", "first", "'all', 'last' or 'decode'"),
        ("temperature", "-1", "outside 0 to 100"),
        ("max_tokens", "0", "below 1"),
        ("n_ctx", "9999", "not within the 1 to 512"),
        ("model", "/no/model.gguf", "cannot read the model /no/model.gguf"),
        ("bundle", "/no/bundle", "cannot read atv.json of the bundle /no/bundle"),
    ],
)
def test_mistakes_are_one_sentence(ask: Ask, pair: list[str], option: str, value: str, words: str) -> None:
    result = ask(*pair, "-o", option, value, "apple 1")
    assert (result.exit_code, result.stdout.strip()) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert ask("logs", "--json").stdout.strip() in ("", "[]")


def test_a_query_that_does_not_fit_needs_a_larger_context(ask: Ask, pair: list[str]) -> None:
    query = "apple " * 50
    small = ask(*pair, "-o", "n_ctx", "256", query)
    assert small.exit_code == 1
    assert "shorten it or raise" in small.stderr
    assert ask(*pair, "-o", "n_ctx", "512", query).exit_code == 0


def test_a_bundle_for_another_target_is_refused(ask: Ask, pair: list[str]) -> None:
    result = ask(*pair[:5], "apple 1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: the bundle ")
    assert len(result.stderr.splitlines()) == 1


def test_an_empty_query_is_refused(ask: Ask, pair: list[str]) -> None:
    assert ask(*pair, "").stderr == "Error: there is no query; say something to answer\n"
    assert "the query is empty" in ask(*pair, " ").stderr


def test_attachments_tools_and_schemas_are_refused(ask: Ask, pair: list[str], tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("apple")
    for more, what in (
        (["--at", str(tmp_path / "note.txt"), "text/plain"], "attachments"),
        (["-T", "llm_version"], "tools"),
        (["--schema", "kind, number int"], "schemas"),
    ):
        result = ask(*pair, *more, "apple 1")
        assert result.exit_code == 1
        assert f"not support {what}" in result.stderr


def test_an_alias_for_a_pair_is_enough(
    ask: Ask, options: dict[str, Any], user_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not user_folder.exists()
    add_alias("mine", **options)
    assert ask("-m", "atv", "-o", "model", "mine", "apple 1").stdout == "a\n"
    monkeypatch.setenv("ATV_MODEL", "mine")
    assert ask("-m", "atv", "dog 1").stdout == "b\n"


# How llm finds it.


def test_the_entry_point_is_the_plugin() -> None:
    (name, value), *others = ENTRY_POINTS.items()
    assert not others
    assert EntryPoint(name, value, "llm").load() is llm_model


def test_llm_starts_without_what_is_heavy() -> None:
    code = """if True:
        import sys, llm, llm.parts, pydantic, concurrent.futures, queue
        before = set(sys.modules)
        import atv_plugins.llm_model
        print(*{name.split(".")[0] for name in set(sys.modules) - before})
    """
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert set(result.stdout.split()) == {"atv_plugins", "atv_local", "lazy_loader"}


def test_the_readmes_session_with_what_is_installed(tmp_path: Path) -> None:
    """llm itself, the plugin found by its entry point, the embedded model and the demo bundle."""
    installed = tmp_path / "site" / "atv_local-0.1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: atv-local\nVersion: 0.1.0\n")
    lines = [f"{name} = {value}\n" for name, value in ENTRY_POINTS.items()]
    (installed / "entry_points.txt").write_text("[llm]\n" + "".join(lines))
    environment = _environment(tmp_path / "site") | {
        "LLM_USER_PATH": str(tmp_path / "user"),
        "LLM_LOAD_PLUGINS": "atv-local",
    }
    sessions = re.findall(r"```console\n(\$ llm .*?)```", (ROOT / "docs/how-to/llm.md").read_text(), re.DOTALL)
    commands = re.findall(r"^\$ llm (.*)\n(.*\n)", "".join(sessions), re.MULTILINE)
    assert [answer for _, answer in commands] == ["spam\n", "kitchen and dining\n"]
    for words, answer in commands:
        result = subprocess.run(
            [sys.executable, "-m", "llm", *shlex.split(words)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, answer, "")


def _environment(*before: Path) -> dict[str, str]:
    """This process's, in which Python finds the same packages."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, before), *filter(None, sys.path)])}
