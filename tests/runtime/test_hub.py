"""Models and bundles in Hugging Face's cache, and downloads from the hub."""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import gguf
import huggingface_hub
import numpy as np
import pytest
import requests
from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_local.data import parts_of
from atv_local.errors import BundleError, NotFoundError
from atv_local.generator.bundle import Bundle
from atv_local.names import add_alias, resolve_bundle, resolve_model, resolve_name
from atv_local.names.gguf_names import choices_of_parts, quantisation_of

pytestmark = pytest.mark.usefixtures("user_folder")

Files = Mapping[str, Path | bytes]
Add = Callable[..., Path]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def add(cache: Path) -> Add:
    """Writes a commit of a repository into the cache, as huggingface_hub lays it out."""

    def write(repo: str, files: Files, commit: str = "a" * 40, main: bool = True) -> Path:
        folder = cache / f"models--{repo.replace('/', '--')}"
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True, exist_ok=True)
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "blobs").mkdir(exist_ok=True)
        if main:
            (folder / "refs" / "main").write_text(commit)
        for name, content in files.items():
            raw = content.read_bytes() if isinstance(content, Path) else content
            blob = folder / "blobs" / hashlib.sha256(raw).hexdigest()
            blob.write_bytes(raw)
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).unlink(missing_ok=True)
            (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
        return snapshot

    return write


@pytest.fixture
def remote(add: Add, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Path | bytes]]:
    """Repositories on a hub that is there: what is asked of huggingface_hub is answered from this."""
    repos: dict[str, dict[str, Path | bytes]] = {}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def download(repo: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        assert revision in (None, "b" * 40)
        chosen = {
            name: content
            for name, content in repos[repo].items()
            if any(fnmatch.fnmatch(name, pattern) for pattern in allow_patterns)
        }
        return str(add(repo, chosen, "b" * 40))

    def listed(_: object, repo: str) -> list[str]:
        if repo not in repos:
            raise requests.exceptions.ConnectionError("no route to host")
        return list(repos[repo])

    def head(_: object, path: str, *, end: int) -> bytes:
        user, repo, file = path.split("/", 2)
        content = repos[f"{user}/{repo}"][file]
        return (content.read_bytes() if isinstance(content, Path) else content)[:end]

    monkeypatch.setattr(huggingface_hub.HfFileSystem, "cat_file", head)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
    return repos


def files_of(bundle: Path) -> dict[str, Path | bytes]:
    return {file.relative_to(bundle).as_posix(): file for file in bundle.rglob("*") if file.is_file()}


# Which file of a repository


def best(files: Iterable[str], quantisation: str = "") -> list[str]:
    return next(iter(choices_of_parts(files, quantisation)), [])


def test_the_quantisation_chooses_the_file() -> None:
    names = ["README.md", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q4_K_S.gguf", "m-f16.gguf", "mmproj-m-Q4_K_M.gguf"]
    assert best(names) == ["m-Q4_K_M.gguf"]
    assert best(names, "q8_0") == ["m-Q8_0.gguf"]
    assert best(names, "F16") == ["m-f16.gguf"]
    assert best(names, "Q4_K") == []
    assert best(names, "8_0") == []
    assert best(["a-IQ2_M.gguf", "b-Q8_0.gguf"]) == ["b-Q8_0.gguf"]
    assert best(["b-IQ2_M.gguf", "a-F32.gguf"]) == ["a-F32.gguf"]
    assert best(["README.md", "x.gguf.txt"]) == []
    assert best(["UD/m-UD-Q4_K_XL.gguf"], "UD-Q4_K_XL") == ["UD/m-UD-Q4_K_XL.gguf"]


@pytest.mark.parametrize(
    "other",
    [
        "a-mmproj-f16.gguf",
        "A-F16-LoRA.gguf",
        "a_imatrix.gguf",
        "lora/adapter-Q8_0.gguf",
        "MTP/a-Q4_K_M.gguf",
        "a-draft-Q8_0.gguf",
    ],
)
def test_names_of_other_things_come_last(other: str) -> None:
    assert choices_of_parts([other, "z.gguf"]) == [["z.gguf"], [other]]
    assert best(["Explorama-Q8_0.gguf", "z.gguf"]) == ["Explorama-Q8_0.gguf"]


def test_a_model_in_parts_needs_all_of_them() -> None:
    parts = [f"Q8_0/m-Q8_0-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert best(reversed(parts), "Q8_0") == parts
    assert best(parts[:2], "Q8_0") == []
    assert best([*parts[1:], "m-Q2_K.gguf"]) == ["m-Q2_K.gguf"]


@pytest.mark.parametrize("count", ["00000", "01001", "99999"])
def test_a_count_of_parts_that_no_model_has(add: Add, count: str) -> None:
    name = f"m-00001-of-{count}.gguf"
    assert best([name, "m-Q2_K.gguf"]) == ["m-Q2_K.gguf"]
    assert best([name]) == []
    assert parts_of(name) == [name]
    file = add("user/repo", {name: b"GGUF"}) / name
    add_alias("mine", str(file))
    assert {"mine"} == {entry["name"] for entry in json.loads(cli("ls", "--json").stdout)} - {
        "default",
        "demo",
        "general",
    }


@pytest.mark.parametrize(
    ("name", "said"),
    [("a/SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"), ("m-iq3_xxs.gguf", "IQ3_XXS"), ("qwen2.5-0.5b-bf16.gguf", "BF16"),
     ("m-UD-Q4_K_XL-00001-of-00002.gguf", "UD-Q4_K_XL"), ("q.gguf", ""), ("model.gguf", "")],
)  # fmt: skip
def test_the_file_name_says_the_quantisation(name: str, said: str) -> None:
    assert quantisation_of(name) == said


# In the cache


def test_a_model_in_the_cache_answers_without_a_network(add: Add, tiny_gguf: Path, tiny_bundle: Path) -> None:
    snapshot = add("user/repo", {"tiny-Q8_0.gguf": tiny_gguf, "tiny-F16.gguf": b"GGUF"})
    assert resolve_model("hf:user/repo:Q8_0") == snapshot / "tiny-Q8_0.gguf"
    result = cli("run", "--json", "-m", "hf:user/repo:Q8_0", "-g", tiny_bundle, "apple 1")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["text"] == "a"


def test_a_bundle_in_the_cache_is_read_through_its_links(add: Add, tiny_gguf: Path, tiny_bundle: Path) -> None:
    snapshot = add("user/kinds", files_of(tiny_bundle))
    assert resolve_bundle("hf:user/kinds") == snapshot
    assert atv_local.load(tiny_gguf, "hf:user/kinds").generator.bundle.id == Bundle(tiny_bundle).id  # type: ignore[union-attr]
    assert resolve_name("hf:user/kinds") == snapshot
    shutil.rmtree(snapshot / "onnx")
    with pytest.raises(NotFoundError, match=r"pull_name\('hf:user/kinds'\)"):
        resolve_bundle("hf:user/kinds")


def test_a_link_out_of_the_cache_is_still_refused(add: Add, tiny_bundle: Path) -> None:
    snapshot = add("user/kinds", files_of(tiny_bundle))
    outside = shutil.copy(tiny_bundle / "tokenizer.json", snapshot.parent.parent.parent)
    (snapshot / "tokenizer.json").unlink()
    (snapshot / "tokenizer.json").symlink_to(outside)
    with pytest.raises(BundleError, match="link"):
        Bundle(resolve_bundle("hf:user/kinds"))


def test_only_in_the_cache_may_a_bundle_be_links(add: Add, tiny_bundle: Path, tmp_path: Path) -> None:
    snapshot = add("user/kinds", files_of(tiny_bundle))
    blobs = snapshot.parent.parent / "blobs"
    copy = shutil.copytree(snapshot.parent.parent, tmp_path / "elsewhere" / "models--user--kinds", symlinks=True)
    with pytest.raises(BundleError, match="link"):
        Bundle(copy / "snapshots" / snapshot.name)
    blobs.rename(tmp_path / "blobs")
    blobs.symlink_to(tmp_path / "blobs")
    with pytest.raises(BundleError, match="link"):
        Bundle(snapshot)


def test_the_main_branch_comes_first_then_other_commits(add: Add) -> None:
    new = add("user/repo", {"m-Q8_0.gguf": b"new"}, "b" * 40)
    old = add("user/repo", {"m-Q8_0.gguf": b"old", "m-Q4_0.gguf": b"old"}, "a" * 40, main=False)
    assert resolve_model("hf:user/repo:Q8_0").parent == new
    assert resolve_model("hf:user/repo:Q4_0").parent == old


def test_what_is_not_in_the_cache_is_not_fetched_offline(
    add: Add, remote: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    add("user/repo", {"m-Q8_0.gguf": b"GGUF"})
    remote["user/repo"] = {"m-Q4_0.gguf": b"GGUF"}
    with pytest.raises(NotFoundError, match=r"pull_name\('hf:user/repo:Q4_0'\)"):
        resolve_model("hf:user/repo:Q4_0", offline=True)
    assert cli("pull", "hf:user/repo:Q4_0", "--offline").exit_code == 1
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = cli("run", "-m", "hf:user/repo:Q4_0", "hello")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "atv-local pull hf:user/repo:Q4_0" in result.stderr


def test_offline_is_for_every_verb(add: Add, cache: Path, tiny_gguf: Path) -> None:
    """In a process of its own, as huggingface_hub reads the environment when it is imported."""
    found = add("user/repo", {"m-Q8_0.gguf": tiny_gguf}) / "m-Q8_0.gguf"
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}

    def offline(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "atv_cli", "--offline", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    pulled = offline("pull", "hf:user/repo")
    assert (pulled.returncode, pulled.stdout.strip()) == (0, str(found)), pulled.stderr
    for arguments in (["pull", "hf:user/other"], ["run", "-m", "hf:user/other", "hello"]):
        result = offline(*arguments)
        assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
        assert "nothing is downloaded offline" in result.stderr


@pytest.fixture(params=["mmproj", "adapter", "imatrix", "clip", "controlvector"])
def other_gguf(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A GGUF that is no model."""
    architecture = request.param if request.param in ("clip", "controlvector") else "llama"
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", architecture)
    if architecture == "llama":
        writer.add_type(request.param)
    writer.add_tensor("t", np.zeros(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "other.gguf"


def test_a_gguf_that_is_no_model_is_not_chosen(
    add: Add, remote: dict[str, Files], other_gguf: Path, tiny_gguf: Path
) -> None:
    """Whatever its name is, in the cache and on the hub."""
    files = {"a-Q4_K_M.gguf": other_gguf, "z-Q8_0.gguf": tiny_gguf}
    snapshot = add("user/cached", files)
    remote["user/remote"] = files
    assert resolve_model("hf:user/cached") == snapshot / "z-Q8_0.gguf"
    found = resolve_model("hf:user/remote")
    assert (found.name, [file.name for file in found.parent.iterdir()]) == ("z-Q8_0.gguf", ["z-Q8_0.gguf"])
    listed = {entry["name"] for entry in json.loads(cli("ls", "--json").stdout)}
    assert listed == {"default", "demo", "general", "hf:user/cached:Q8_0", "hf:user/remote:Q8_0"}


@pytest.mark.parametrize("offline", [True, False])
def test_a_repository_without_a_model_says_what_it_has(
    add: Add, remote: dict[str, Files], other_gguf: Path, offline: bool
) -> None:
    add("user/repo", {"a-Q8_0.gguf": other_gguf})
    remote["user/repo"] = {"a-Q8_0.gguf": other_gguf}
    for name in ("hf:user/repo", "hf:user/repo:Q8_0"):
        with pytest.raises(NotFoundError, match=r"a-Q8_0.gguf is (a|an) "):
            resolve_model(name, offline=offline)


# From the hub


def test_a_model_is_fetched_when_it_is_named(remote: dict[str, Files], tiny_gguf: Path) -> None:
    remote["user/repo"] = {"README.md": b"x", "m[1]-Q4_0.gguf": tiny_gguf, "m-Q8_0.gguf": b"GGUF"}
    found = resolve_model("hf:user/repo")
    assert (found.name, found.read_bytes()) == ("m[1]-Q4_0.gguf", tiny_gguf.read_bytes())
    assert [file.name for file in found.parent.iterdir()] == ["m[1]-Q4_0.gguf"]
    remote.clear()  # the hub is gone
    assert resolve_model("hf:user/repo") == found


def test_all_parts_are_fetched(remote: dict[str, Files]) -> None:
    parts = {f"m-Q8_0-0000{n}-of-00002.gguf": b"%d" % n for n in (1, 2)}
    remote["user/repo"] = {**parts, "m-Q2_K.gguf": b"GGUF"}
    found = resolve_model("hf:user/repo:Q8_0")
    assert found.name == "m-Q8_0-00001-of-00002.gguf"
    assert sorted(file.name for file in found.parent.iterdir()) == sorted(parts)


def test_of_a_bundle_only_its_files_are_fetched(remote: dict[str, Files], tiny_bundle: Path, tiny_gguf: Path) -> None:
    remote["user/kinds"] = {**files_of(tiny_bundle), "pytorch_model.bin": b"x", "tiny-Q8_0.gguf": tiny_gguf}
    result = cli("pull", "hf:user/kinds")
    assert result.exit_code == 0, result.stderr
    folder = Path(result.stdout.strip())
    assert Bundle(folder).id == Bundle(tiny_bundle).id
    assert files_of(folder).keys() == files_of(tiny_bundle).keys()
    result = cli("pull", "hf:user/kinds:Q8_0")
    assert Path(result.stdout.strip()).read_bytes() == tiny_gguf.read_bytes()


def test_pull_brings_up_to_date_what_is_cached(add: Add, remote: dict[str, Files]) -> None:
    add("user/repo", {"m-Q8_0.gguf": b"old"})
    remote["user/repo"] = {"m-Q8_0.gguf": b"new"}
    add_alias("mine", "hf:user/repo:Q8_0")
    assert resolve_model("mine").read_bytes() == b"old"
    assert cli("pull", "mine", "--offline").exit_code == 0
    assert resolve_model("mine").read_bytes() == b"old"
    assert Path(cli("pull", "mine").stdout.strip()).read_bytes() == b"new"
    assert resolve_model("mine").read_bytes() == b"new"


def test_pull_offline_is_what_is_in_the_cache(
    add: Add, remote: dict[str, Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = add("user/repo", {"m-Q8_0.gguf": b"old"}) / "m-Q8_0.gguf"
    remote["user/repo"] = {"m-Q8_0.gguf": b"new"}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = cli("pull", "hf:user/repo")
    assert (result.exit_code, result.stdout.strip()) == (0, str(found)), result.stderr
    assert found.read_bytes() == b"old"


def test_pull_of_what_is_here_says_where(tiny_gguf: Path) -> None:
    assert cli("pull", tiny_gguf).stdout.strip() == str(tiny_gguf)


@pytest.mark.parametrize("name", ["", "missing.gguf", "/no/where"])
def test_pull_of_nothing_is_an_error(name: str) -> None:
    result = cli("pull", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"there is no file, folder or alias {name!r}" in result.stderr if not name else repr(name) in result.stderr


def test_what_the_hub_lacks_is_said_in_one_sentence(remote: dict[str, Files], tiny_bundle: Path) -> None:
    remote["user/repo"] = {"m-Q8_0.gguf": b"GGUF", "m-Q2_K-00001-of-00002.gguf": b"GGUF"}
    remote["user/none"] = {"model.safetensors": b"x"}
    remote["user/kinds"] = {"atv.json": tiny_bundle / "atv.json"}
    for ask, said in (
        (lambda: resolve_model("hf:user/repo:Q4_0"), "it has Q2_K, Q8_0"),
        (lambda: resolve_model("hf:user/repo:Q2_K"), "no whole GGUF"),
        (lambda: resolve_model("hf:user/none"), "has no GGUF"),
        (lambda: resolve_bundle("hf:user/repo"), "not a bundle"),
        (lambda: resolve_bundle("hf:user/kinds"), "is not whole"),
        (lambda: resolve_model("hf:user/elsewhere"), "ConnectionError"),
    ):
        with pytest.raises(NotFoundError, match=said):
            ask()


@pytest.mark.parametrize(
    ("error", "said"),
    [(OSError(errno.ENOSPC, "No space left on device"), "make room there"),
     (PermissionError(errno.EACCES, "Permission denied", "/x"), "make room there"),
     (requests.exceptions.ConnectionError("no route"), "where there is a network"),
     (HfHubHTTPError("", response=requests.Response()), "HfHubHTTPError")],
)  # fmt: skip
def test_what_goes_wrong_on_the_way_is_said(
    remote: dict[str, Files], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def fail(*_: object, **__: object) -> str:
        raise error

    remote["user/repo"] = {"m-Q8_0.gguf": b"GGUF"}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(NotFoundError, match=said):
        resolve_model("hf:user/repo")


@pytest.mark.parametrize("offline", [True, False])
def test_a_pull_without_a_network_does_not_advise_to_pull(
    remote: dict[str, Files], monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    assert not remote
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    result = cli("pull", "hf:user/repo")
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert "hf:user/repo" in result.stderr
    assert "atv-local pull" not in result.stderr


def test_a_hostile_manifest_names_no_file_outside(remote: dict[str, Files], tiny_bundle: Path) -> None:
    manifest = json.loads((tiny_bundle / "atv.json").read_text())
    manifest["files"]["../../../../etc/passwd"] = {"size": 1, "sha256": "0" * 64}
    remote["user/kinds"] = {**files_of(tiny_bundle), "atv.json": json.dumps(manifest).encode()}
    with pytest.raises((NotFoundError, BundleError)):
        Bundle(resolve_bundle("hf:user/kinds"))


def test_a_bundle_in_a_cache_is_not_calibrated_in_its_place(
    add: Add, cache: Path, tiny_bundle: Path, tiny_rows: Path
) -> None:
    snapshot = add("user/kinds", files_of(tiny_bundle))
    add_alias("kinds", "hf:user/kinds")
    (link := cache.parent / "link").symlink_to(snapshot)
    for name in ("kinds", snapshot, link):
        result = cli("calibrate", tiny_rows, "-g", name)
        assert result.exit_code == 2
        assert "-o" in result.stderr


@pytest.mark.parametrize("harm", ["broken link", "dangling ref", "ref that is no text", "link to itself"])
def test_one_damaged_repository_hides_no_other(add: Add, tiny_gguf: Path, harm: str) -> None:
    good, bad = add("user/good", {"m-Q8_0.gguf": tiny_gguf}), add("user/bad", {"m-Q8_0.gguf": tiny_gguf})
    if harm == "broken link":
        (bad / "other.bin").symlink_to("../../blobs/gone")
    elif harm == "dangling ref":
        (bad.parent.parent / "refs" / "main").write_text("c" * 40)
    elif harm == "ref that is no text":
        (bad.parent.parent / "refs" / "main").write_bytes(b"\xff\xfe")
    else:
        (bad / "loop").symlink_to("loop")
    names = {entry["name"]: entry["path"] for entry in json.loads(cli("ls", "--json").stdout)}
    assert names["hf:user/good:Q8_0"] == str(good / "m-Q8_0.gguf")
    assert names["hf:user/bad:Q8_0"] == str(bad / "m-Q8_0.gguf")


def test_what_is_in_the_cache_is_found_without_a_client_for_the_hub(add: Add, cache: Path) -> None:
    found = add("user/repo", {"m-Q8_0.gguf": b"GGUF"}) / "m-Q8_0.gguf"
    code = (
        "import sys; from atv_local.names import resolve_model; print(resolve_model('hf:user/repo')); "
        "print([name for name in ('requests', 'httpx', 'huggingface_hub.hf_api') if name in sys.modules])"
    )
    environment = os.environ | {"HF_HUB_CACHE": str(cache)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout.splitlines() == [str(found), "[]"]


def test_ls_names_what_leads_back(add: Add, tiny_gguf: Path, tiny_bundle: Path) -> None:
    add("user/repo", {
        "m-Q8_0.gguf": tiny_gguf, "m-Q4_0-00001-of-00002.gguf": tiny_gguf, "m-Q4_0-00002-of-00002.gguf": tiny_gguf,
        "odd.gguf": tiny_gguf, "m-Q2_K-00001-of-00002.gguf": tiny_gguf,
    })  # fmt: skip
    add("user/kinds", files_of(tiny_bundle))
    found = {e["name"]: e for e in json.loads(cli("ls", "--json").stdout) if e["name"].startswith("hf:")}
    assert set(found) == {"hf:user/repo:Q8_0", "hf:user/repo:Q4_0", "hf:user/repo:odd", "hf:user/kinds"}
    for name, entry in found.items():
        assert resolve_name(name, offline=True) == Path(entry["path"])
    assert found["hf:user/repo:Q4_0"]["size"] == 2 * tiny_gguf.stat().st_size
    assert found["hf:user/kinds"]["fits"] == "tiny"


def test_endings_in_capitals(add: Add, tiny_gguf: Path) -> None:
    add("someone/Model", {"M.Q8_0.GGUF": tiny_gguf.read_bytes()})
    assert resolve_model("hf:someone/Model:Q8_0").name == "M.Q8_0.GGUF"


def test_what_the_cache_has_of_a_repository_is_named_offline(add: Add, tiny_gguf: Path) -> None:
    add("someone/Model", {"m-Q8_0.gguf": tiny_gguf.read_bytes()})
    with pytest.raises(NotFoundError, match=r"it has hf:someone/Model:Q8_0\)"):
        resolve_model("hf:someone/Model:Q4_0", offline=True)
