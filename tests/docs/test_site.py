"""The documentation: it builds, agrees with the program and the measurements, and its links and commands are right."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from atv_cli import app
from benchmarks import report
from scripts import models_page
from scripts.cli_reference import PAGE, reference
from tests import PACKAGES, ROOT

DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", ".github/**/*.md", "docs/**/*.md", "data/**/*.md")
    for path in ROOT.glob(pattern)
)
NOT_FOR_PYTHON = {"atv_cli", "atv_plugins"}
"""Packages without a page in the Python reference: they are used from the command line and through entry points."""
REPOSITORY = re.compile(
    r"https://(?:github\.com/atv-local/atv-local/(?:blob|tree)|raw\.githubusercontent\.com/atv-local/atv-local)/main/"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; any warning fails the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_site_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert "--8" not in html, page  # a file that should have been included
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"([^\"]+)|<link[^>]*\shref=\"([^\"]+)", html)
        assert not [url for pair in loaded for url in pair if url.startswith(("http:", "https:", "//"))], page


@pytest.mark.parametrize("package", sorted(PACKAGES.keys() - NOT_FOR_PYTHON))
def test_every_public_name_is_in_the_python_reference(site: Path, package: str) -> None:
    html = (site / "reference" / "python" / f"{package}.html").read_text(encoding="utf-8")
    documented = set(re.findall(rf'id="{package}\.(\w+)"', html))
    module = __import__(package)
    public = {name for name in module.__all__ if not name.startswith("_")}
    assert public
    assert public <= documented


def test_the_command_line_reference_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), "run `make docs`"


def test_the_page_of_models_is_current() -> None:
    assert models_page.PAGE.read_text(encoding="utf-8") == models_page.page(), "run `make docs`"


def test_no_model_of_the_matrix_ends_in_a_traceback() -> None:
    assert "traceback" not in models_page.RESULTS.read_text(encoding="utf-8")


def test_the_results_page_is_current(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(report, "PAGE", tmp_path / "results.md")
    report.main()
    page = ROOT / "docs" / "explanation" / "results.md"
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), "run `make docs`"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Also those to the repository's own address, which are read on the package index."""
    document = ROOT / name
    for link in re.findall(r"\]\(([^)\s#]+)[^)]*\)", document.read_text(encoding="utf-8")):
        if REPOSITORY.match(link):
            assert (ROOT / REPOSITORY.sub("", link)).exists(), link
        elif not link.startswith("https:"):
            assert (document.parent / link).exists(), link


def test_the_readme_has_only_absolute_links() -> None:
    """It is shown on the package index too, where relative ones lead nowhere."""
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not link.startswith("https:")] == []


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if "reference/cli" not in name])
def test_commands_are_ones_that_the_program_takes(name: str) -> None:
    """Every `atv-local` in a code block, parsed and not run."""
    verbs = get_command(app).commands  # type: ignore[attr-defined]  # a group
    for words in commands((ROOT / name).read_text(encoding="utf-8")):
        verb = next((word for word in words if word in verbs), None)
        before = words if verb is None else words[: words.index(verb)]
        assert set(before) <= {"--offline", "--version", "--install-completion"}, words
        if verb is not None:
            try:
                verbs[verb].make_context(verb, words[len(before) + 1 :])
            except Exception as error:  # click's, of which typer has its own copy
                pytest.fail(
                    f"{shlex.join(words)}: {error.format_message() if hasattr(error, 'format_message') else error!r}"
                )


def test_options_that_the_pages_name_exist() -> None:
    verbs = get_command(app).commands.values()  # type: ignore[attr-defined]  # a group
    known = {option for verb in verbs for param in verb.params for option in (*param.opts, *param.secondary_opts)}
    known |= {"--help", "--offline", "--version"}
    pages = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "RELEASE.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for code in re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page.read_text(encoding="utf-8")):
            if not re.search(r"^llm |lm_eval|llama-|torchrun|accelerate|benchmarks|pip ", code):
                assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code)) <= known, f"{page.name}: {code}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "RELEASE.md", "SECURITY.md"])
def test_paths_that_are_named_exist(name: str) -> None:
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for path in re.findall(r"`([\w.]+/[\w./-]+)`", (ROOT / name).read_text(encoding="utf-8")):
        if path.split("/")[0] in folders and "NAME" not in path:
            assert (ROOT / path).exists(), path


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of every call of the program in a document's shell and console blocks."""
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
        for part in re.split(r"\s\|\s", line.removeprefix("$ ")):
            if "atv-local" in part or "atv_cli" in part:
                words = shlex.split(part, comments=True)
                start = next((n for n, word in enumerate(words) if word in ("atv-local", "atv_cli")), None)
                if start is not None:
                    yield words[start + 1 :]
