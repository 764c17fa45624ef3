"""Every hostile bundle is one sentence, and nothing is written, run or read outside of it."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from atv_cli.main import app
from atv_local.errors import AtvError, BundleError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from tests.hostile.corpus import BUNDLES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", BUNDLES)
def test_it_is_one_sentence(
    tiny_bundle: Path, tiny_gguf: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever reads it: and weights outside would be there to be read."""
    monkeypatch.chdir(tmp_path)
    bundle = BUNDLES[name](tiny_bundle, tmp_path)
    for folder in {tmp_path, bundle.parent, tiny_bundle.parent}:
        (folder / "secret.bin").write_bytes(bytes(3 * 64 * 4))
    before = sorted(tmp_path.rglob("*"))
    for command in (
        ["run", "-m", str(tiny_gguf), "-g", str(bundle), "apple 1"],
        ["inspect", str(bundle), "-q", "apple 1"],
        ["vector", "apple 1", "-g", str(bundle), "-o", str(tmp_path / "v.gguf")],
    ):
        result = CliRunner().invoke(app, command, input="")
        assert (result.exit_code, result.stdout) == (1, ""), (command, result.stdout, result.stderr)
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert result.stderr.startswith("atv-local: ")
        assert result.stderr.strip().isprintable()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_bomb_takes_no_memory(tiny_bundle: Path, tmp_path: Path) -> None:
    """Refused within a limit that its content would break."""
    bundle = BUNDLES["zip with an endless manifest"](tiny_bundle, tmp_path)
    code = (
        "import sys, pathlib; from atv_local.generator.bundle import Bundle; from atv_local.errors import BundleError\n"
        "try: Bundle(pathlib.Path(sys.argv[1]))\n"
        "except BundleError: print('refused')"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (200 << 20, 200 << 20))

    done = subprocess.run(
        [sys.executable, "-c", code, str(bundle)], preexec_fn=limited, capture_output=True, text=True, check=False
    )
    assert done.stdout == "refused\n", done.stderr


@given(data=st.data())
def test_no_manifest_breaks_the_reader(
    tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any value in any place is accepted or refused, never another exception."""
    bundle = tmp_path_factory.mktemp("fuzz") / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    manifest = json.loads((bundle / "atv.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        place = manifest
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
                place = place[key]
                continue
            if data.draw(st.booleans()):
                place[key] = data.draw(JSON)
            else:
                del place[key]
            break
        if not manifest:
            break
    (bundle / "atv.json").write_text(json.dumps(manifest))
    try:
        Generator(Bundle(bundle))("apple")
    except AtvError as error:
        message = str(error)
    else:
        message = ""
    assert message.isprintable()


@given(raw=st.binary(max_size=200))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "atv.json").write_bytes(raw)
    with pytest.raises(BundleError):
        Bundle(folder)
    (folder / "bundle.zip").write_bytes(raw)
    with pytest.raises(BundleError):
        Bundle(folder / "bundle.zip")
