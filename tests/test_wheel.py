"""What users install is the wheel, not the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests import ROOT


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from the sdist, as an installer would."""
    output = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(output), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return output


def test_the_wheel_holds_the_packages_and_nothing_else(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {
        package.parent.name for package in ROOT.glob("**/atv_*/__init__.py") if ".venv" not in package.parts
    }
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert {f"atv_local/{name}_bundle/atv.json" for name in ("demo", "general")} <= set(names)
    assert "atv_local/data/unrelated_queries.txt" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_sdist_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "train/atv_train/job.py", "atv_local/errors.py"} <= names


def test_the_installed_wheel_answers(dist: Path, tmp_path: Path, tiny_gguf: Path, tiny_bundle: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, *install], check=True)
    assert (site / "bin" / "atv-local").is_file()
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import atv_local, atv_cli.main as m; "
        "print(atv_local.__file__, file=sys.stderr); m.main()"
    )
    run = ["run", "--json", "-m", str(tiny_gguf), "-g", str(tiny_bundle), "apple 1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, "-c", code, str(site), *run],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert result.stderr.strip().startswith(str(site))
    assert json.loads(result.stdout)["text"] == "a"
