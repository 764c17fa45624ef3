"""Names in Ollama's folder."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_local.errors import NotFoundError
from atv_local.names import resolve_model


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


pytestmark = pytest.mark.usefixtures("user_folder")


@pytest.fixture
def ollama(tmp_path: Path, tiny_gguf: Path) -> Callable[..., Path]:
    """Writes a model as Ollama lays it out; what is given replaces the layer of the model."""

    def write(place: str = "registry.ollama.ai/library/tiny/latest", *more: dict, **changes: object) -> Path:
        models = tmp_path / "ollama"
        (models / "blobs").mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
        shutil.copy(tiny_gguf, models / "blobs" / f"sha256-{digest}")
        config = b'{"model_format": "gguf", "file_type": "F32"}'
        (models / "blobs" / f"sha256-{hashlib.sha256(config).hexdigest()}").write_bytes(config)
        layer = {
            "mediaType": "application/vnd.ollama.image.model",
            "digest": f"sha256:{digest}",
            "size": tiny_gguf.stat().st_size,
        }
        licence = {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'1' * 64}", "size": 3}
        described = {"digest": f"sha256:{hashlib.sha256(config).hexdigest()}", "size": len(config)}
        file = models / "manifests" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            json.dumps({"schemaVersion": 2, "config": described, "layers": [licence, layer | changes, *more]})
        )
        return models / "blobs" / f"sha256-{digest}"

    return write


@pytest.mark.parametrize(
    ("place", "names"),
    [("registry.ollama.ai/library/tiny/latest", ["tiny", "tiny:latest", "library/tiny"]),
     ("registry.ollama.ai/library/tiny/1b-q4_0", ["tiny:1b-q4_0"]),
     ("registry.ollama.ai/me/tiny/v1", ["me/tiny:v1", "registry.ollama.ai/me/tiny:v1"]),
     ("hf.co/user/Repo-GGUF/Q4_K_M", ["hf.co/user/Repo-GGUF:Q4_K_M"]),
     ("localhost:5000/me/tiny/latest", ["localhost:5000/me/tiny"])],
)  # fmt: skip
def test_ollamas_models_are_read_where_they_lie(ollama: Callable[..., Path], place: str, names: list[str]) -> None:
    blob = ollama(place)
    assert [resolve_model(f"ollama:{name}") for name in names] == [blob] * len(names)
    (listed,) = [entry for entry in json.loads(cli("ls", "--json").stdout) if entry["name"].startswith("ollama:")]
    assert (listed["kind"], listed["quantisation"], listed["path"]) == ("model", "F32", str(blob))
    assert resolve_model(listed["name"]) == blob


@pytest.mark.parametrize("name", ["tiny", "tiny:latest", "library/tiny"])
def test_a_name_as_ollama_takes_it_is_offered_with_the_scheme(ollama: Callable[..., Path], name: str) -> None:
    ollama()
    with pytest.raises(NotFoundError, match=r"ollama:tiny:latest\?$"):
        resolve_model(name)


def test_ollamas_model_answers(ollama: Callable[..., Path], tiny_bundle: Path) -> None:
    ollama()
    result = cli("run", "--json", "-m", "ollama:tiny", "-g", tiny_bundle, "apple 1")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "a"
    assert json.loads(cli("inspect", "ollama:tiny", "--json").stdout)["name"] == "tiny"
    assert atv_local.load("ollama:tiny", tiny_bundle).target.spec.name == "tiny"


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"digest": "sha256:../../../etc/passwd"}, "not a manifest"), ({"digest": f"sha256:{'A' * 64}"}, "not a manifest"),
     ({"digest": f"sha256:{'0' * 64}\n"}, "not a manifest"), ({"digest": f"md5:{'0' * 64}"}, "not a manifest"),
     ({"digest": f"sha256:{'0' * 64}"}, "cannot read"), ({"size": 5}, "not the 5 of its manifest"),
     ({"mediaType": "application/vnd.ollama.image.tensor"}, "not one GGUF")],
)  # fmt: skip
def test_what_ollama_would_not_have_written_is_refused(
    ollama: Callable[..., Path], changes: dict[str, object], said: str
) -> None:
    ollama("registry.ollama.ai/library/tiny/latest", **changes)
    with pytest.raises(NotFoundError, match=said):
        resolve_model("ollama:tiny")
    (listed,) = [entry for entry in json.loads(cli("ls", "--json").stdout) if entry["name"].startswith("ollama:")]
    assert (listed["name"], listed["kind"]) == ("ollama:tiny:latest", "")
    assert said in listed["error"]


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"layers": {}}', b"\xff", b"[" * 100_000, b" " * (2 << 20)])
def test_a_damaged_manifest_is_one_sentence(ollama: Callable[..., Path], tmp_path: Path, content: bytes) -> None:
    ollama()
    (tmp_path / "ollama/manifests/registry.ollama.ai/library/tiny/latest").write_bytes(content)
    result = cli("run", "-m", "ollama:tiny", "hello")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1), result.output


def test_a_folder_of_ollamas_that_cannot_be_read(
    ollama: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama()
    stat = Path.stat

    def refused(path: Path, **options: bool) -> os.stat_result:
        if path.is_relative_to(tmp_path / "ollama" / "manifests"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    with pytest.raises(NotFoundError, match=r"cannot read .*manifests.*: Permission denied"):
        resolve_model("ollama:tiny")
    result = cli("ls", "--json")
    (listed,) = [entry for entry in json.loads(result.stdout) if entry["name"].startswith("ollama:")]
    assert "Permission denied" in listed["error"]


def test_a_user_without_a_home_has_no_folder_of_ollamas(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("OLLAMA_MODELS")
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(NotFoundError, match="there is no ollama:tiny-of-nobody"):
        resolve_model("ollama:tiny-of-nobody")


def test_a_blob_can_be_a_link_to_the_users_own_file(ollama: Callable[..., Path], tiny_gguf: Path) -> None:
    blob = ollama()
    blob.unlink()
    blob.symlink_to(tiny_gguf)
    assert resolve_model("ollama:tiny").read_bytes() == tiny_gguf.read_bytes()


@pytest.mark.parametrize(
    ("place", "words"), [("gone.gguf", "No such file"), ("other.gguf", "4 bytes"), ("folder", "regular")]
)
def test_a_link_that_leads_to_another_file_is_said(
    ollama: Callable[..., Path], tmp_path: Path, place: str, words: str
) -> None:
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    (tmp_path / "folder").mkdir()
    blob = ollama()
    blob.unlink()
    blob.symlink_to(tmp_path / place)
    with pytest.raises(NotFoundError, match=f"a link to .*{place}.*{words}"):
        resolve_model("ollama:tiny")


def test_blobs_as_they_were_named_before(ollama: Callable[..., Path]) -> None:
    blob = ollama()
    old = blob.rename(blob.with_name(blob.name.replace("-", ":")))
    assert resolve_model("ollama:tiny") == old


@pytest.mark.parametrize("layer", ["template", "system", "messages", "params"])
def test_what_ollama_makes_prompts_with_is_said_to_be_unused(
    ollama: Callable[..., Path], recwarn: pytest.WarningsRecorder, layer: str
) -> None:
    """By `run`, and not by `ls`."""
    media_type, digest = f"application/vnd.ollama.image.{layer}", f"sha256:{'3' * 64}"
    ollama("registry.ollama.ai/library/worded/latest", {"mediaType": media_type, "digest": digest, "size": 1})
    assert "ollama:worded:latest" in cli("ls").stdout
    assert not recwarn.list
    with pytest.warns(UserWarning, match=f"own .*{layer}.* not used here"):
        resolve_model("ollama:worded")


def test_an_adapter_is_not_left_out_in_silence(ollama: Callable[..., Path]) -> None:
    adapter = {"mediaType": "application/vnd.ollama.image.adapter", "digest": f"sha256:{'2' * 64}", "size": 1}
    ollama("registry.ollama.ai/library/tiny/latest", adapter)
    with pytest.raises(NotFoundError, match="adapter"):
        resolve_model("ollama:tiny")


def test_a_model_that_ollama_lacks(ollama: Callable[..., Path], tiny_gguf: Path) -> None:
    ollama()
    with pytest.raises(NotFoundError, match="ollama pull tiny:7b"):
        resolve_model("ollama:tiny:7b")
    with pytest.raises(NotFoundError, match="Ollama has no bundles"):
        atv_local.load(tiny_gguf, "ollama:tiny")
