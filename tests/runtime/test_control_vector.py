"""Control-vector files: ours read elsewhere, others read here, sums and scales, and `run` under them."""

from __future__ import annotations

import json
import re
import shutil
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_allclose
from typer.testing import CliRunner, Result

import atv_local
from atv_cli.main import app
from atv_local import OFF, ControlVector, Engine, Positions, Steering, Target, TaskVector
from atv_local.errors import NotFoundError, UsageError, VectorError
from atv_local.generator.bundle import Bundle
from atv_local.generator.generator import Generator
from atv_local.vectors import (
    ScaledVector,
    gguf_file,
    parse_scaled_file,
    read_control_vector,
    sum_control_vectors,
    write_control_vector,
)
from tests.tiny import write_gguf

ROWS, WIDTH = 3, 64  # of the tiny target
VECTORS = array_shapes(min_dims=2, max_dims=2, max_side=6).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1e3, 1e3, width=32))
)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)), input="")


def noise(seed: int, size: float = 1.0) -> TaskVector:
    return TaskVector(np.random.default_rng(seed).normal(0, size, (ROWS, WIDTH)))


def written(vector: TaskVector, path: Path) -> Path:
    write_control_vector(vector, path)
    return path


@given(array=VECTORS)
def test_a_file_keeps_every_bit(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("vector") / "v.gguf"
    write_control_vector(TaskVector(array), path, "llama", {"bundle": "abc"})
    found = read_control_vector(path)
    assert np.array_equal(found.vector(len(array)).array, array)
    assert (found.model_hint, found.provenance) == ("llama", {"bundle": "abc"})
    names = [tensor.name for tensor in gguf.GGUFReader(path).tensors]
    assert names == [f"direction.{layer}" for layer in range(1, len(array) + 1)]


@pytest.mark.train  # repeng imports torch
def test_repeng_reads_ours_and_we_read_repengs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "float_", np.float64, raising=False)  # repeng 0.4 names what NumPy 2 has removed
    import repeng

    vector = noise(0)
    theirs = repeng.ControlVector.import_gguf(written(vector, tmp_path / "ours.gguf"))
    assert sorted(theirs.directions) == [1, 2, 3]
    assert all(np.array_equal(theirs.directions[layer], vector.array[layer - 1]) for layer in (1, 2, 3))
    del theirs.directions[2]
    (theirs * 0.5).export_gguf(tmp_path / "theirs.gguf")
    read = read_control_vector(tmp_path / "theirs.gguf").vector(ROWS)
    assert np.array_equal(read.array, 0.5 * vector.array * np.array([[1], [0], [1]], dtype=np.float32))


def test_layers_a_file_lacks_are_zero_and_those_too_many_are_refused(tmp_path: Path) -> None:
    file = read_control_vector(written(noise(0), tmp_path / "v.gguf"))
    assert file.vector(5).norms().tolist()[3:] == [0, 0]
    with pytest.raises(VectorError, match="the target has 1-2"):
        file.vector(2)


def test_files_add_up_with_their_scales(tmp_path: Path) -> None:
    one, two = noise(1), noise(2)
    files = [
        read_control_vector(written(one, tmp_path / "1.gguf")),
        read_control_vector(written(two, tmp_path / "2.gguf")),
    ]
    found = sum_control_vectors([ScaledVector(files[0], 0.5), ScaledVector(files[1], -2.0)], ROWS, WIDTH)
    assert np.allclose(found.array, 0.5 * one.array - 2 * two.array, atol=1e-6)
    with pytest.raises(VectorError, match="width 64, the target has 32"):
        sum_control_vectors([ScaledVector(files[0])], ROWS, 32)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("a.gguf:0.8", ("a.gguf", 0.8)), ("C:\\v.gguf:-1", ("C:\\v.gguf", -1.0)), ("a:b.gguf:2e-1", ("a:b.gguf", 0.2))],
)
def test_scaled_files_are_written_as_llama_cpp_writes_them(given: str, expected: tuple[str, float]) -> None:
    assert parse_scaled_file(given) == (Path(expected[0]), expected[1])


@pytest.mark.parametrize(
    "given", ["a.gguf", "a.gguf:", "a.gguf:much", ":0.5", "", "a.gguf:nan", "a.gguf:inf", "a.gguf:1e300"]
)
def test_a_scale_that_is_none(given: str) -> None:
    with pytest.raises(UsageError, match="FILE:SCALE"):
        parse_scaled_file(given)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 40, b"junk" * 10])
def test_a_file_that_is_no_control_vector_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.gguf"
    path.write_bytes(content)
    with pytest.raises(VectorError, match=re.escape(str(path))):
        read_control_vector(path)


def test_a_model_is_no_control_vector(tiny_gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match=re.escape(str(tiny_gguf))):
        read_control_vector(tiny_gguf)
    with pytest.raises(NotFoundError, match="absent"):
        read_control_vector(tmp_path / "absent.gguf")


def test_a_control_vector_is_no_model(tmp_path: Path) -> None:
    result = cli("run", "-m", write(tmp_path / "v.gguf", ("direction.1", ROW)), "--off", "hi")
    assert result.exit_code == 1
    assert "--control-vector" in result.stderr


def write(path: Path, *tensors: tuple[str, np.ndarray]) -> Path:
    writer = gguf.GGUFWriter(path, "controlvector")
    for name, data in tensors:
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


ROW = np.ones(WIDTH, np.float32)


@pytest.mark.parametrize(
    "tensors",
    [
        [],
        [("direction.1", ROW.astype(np.int32))],
        [("direction.1", ROW.astype(np.float64))],
        [("direction.1", np.ones((2, 4), np.float32))],
        [("direction.1", ROW), ("direction.2", ROW[:8])],
        [("direction.0", ROW)],
        [("direction.-1", ROW)],
        [("direction.one", ROW)],
        [("weights", ROW)],
        [("direction.1", ROW * np.float32(np.nan))],
    ],
)
def test_other_content_is_refused(tmp_path: Path, tensors: list[tuple[str, np.ndarray]]) -> None:
    with pytest.raises(VectorError, match=r"v\.gguf|NaN"):
        read_control_vector(write(tmp_path / "v.gguf", *tensors)).vector(ROWS)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
def test_a_vector_in_another_number_format_is_read(tmp_path: Path, kind: str) -> None:
    row = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    stored = gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", "controlvector")
    writer.add_tensor("direction.2", gguf.quants.quantize(row, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert_allclose(read_control_vector(tmp_path / "v.gguf").vector(3).array[1], row, atol=0.07)


def test_a_direction_with_axes_of_length_1_is_read(tmp_path: Path) -> None:
    vector = read_control_vector(write(tmp_path / "v.gguf", ("direction.1", ROW[None, None]))).vector(1)
    assert vector.array.tolist() == [ROW.tolist()]


def test_number_formats_that_would_take_all_memory_are_refused() -> None:
    one_bit, n_values = 19, 256 * (1 << 21)  # IQ1_S
    info = struct.pack("<Q2sIQIQ", 2, b"01", 1, n_values, one_bit, 0)
    with pytest.raises(ValueError, match="file"):
        gguf_file.parse(b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + info + bytes(400))


@given(data=st.data())
def test_a_damaged_file_is_one_clear_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = written(noise(0), tmp_path_factory.mktemp("vector") / "v.gguf")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(400, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with suppress(VectorError):
        read_control_vector(path).vector(ROWS)


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("<QQ", 1 << 60, 1),
        struct.pack("<QQ", 0, 1 << 60),
        struct.pack("<QQQ", 0, 1, 1 << 60),
        struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 4, 1 << 62),
        struct.pack("<QQQ1sIIQ", 0, 1, 1, b"k", 9, 8, 1 << 62),
        struct.pack("<QQQ1sI", 0, 1, 1, b"k", 99),
    ],
)
def test_a_header_that_declares_too_much_is_refused_at_once(tail: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError):  # noqa: PT011  # whatever it says
        gguf_file.parse(b"GGUF" + struct.pack("<I", 3) + tail)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_tensors_that_share_their_bytes_are_refused() -> None:
    info = b"".join(struct.pack("<Q2sIQIQ", 2, b"%02d" % n, 1, 64, 0, 0) for n in range(90))
    with pytest.raises(ValueError, match="file"):
        gguf_file.parse(b"GGUF" + struct.pack("<IQQ", 3, 90, 0) + info + bytes(400))


def test_a_vector_of_another_vocabulary_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    assert cli("vector", "fig", "-g", tiny_bundle, "-o", tmp_path / "v.gguf").exit_code == 0
    other = write_gguf(tmp_path / "other.gguf", vocabulary="é")
    result = cli("run", "-m", other, "--control-vector", tmp_path / "v.gguf", "fig")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "vocabulary" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--control-vector", "{v}", "--provider", "cpu"],
        ["--control-vector", "{v}", "--precision", "int8"],
    ],
)
def test_options_that_would_do_nothing_are_refused(tiny_gguf: Path, tmp_path: Path, options: list[str]) -> None:
    path = written(noise(0), tmp_path / "v.gguf")
    result = cli("run", "-m", tiny_gguf, "fig", *(option.format(v=path) for option in options))
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_file_beside_a_generator_steers_layers_that_the_generator_leaves(
    tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "atv.json").read_text())
    manifest["injection"]["layers"] = [1, 1]
    (bundle / "atv.json").write_text(json.dumps(manifest))
    path = written(noise(4), tmp_path / "v.gguf")
    engine = atv_local.load(tiny_gguf, bundle, control_vectors=[(path, 1.0)])
    own = Generator(Bundle(tiny_bundle))("fig")
    assert engine.steering.apply(engine.vector("fig")) == own.only(1, 1) + noise(4)


def answers(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_run_steers_by_files_beside_a_generator_or_without_one(
    tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    query = "apple 1"
    own = Generator(Bundle(tiny_bundle))(query)
    write_control_vector(own, tmp_path / "own.gguf", provenance={"positions": "decode"})
    write_control_vector(-own, tmp_path / "minus.gguf", provenance={"positions": "decode"})
    common = ["run", "--json", "-m", tiny_gguf, query, "-n", 4]
    steered = answers(cli(*common, "-g", tiny_bundle))
    alone = answers(cli(*common, "--control-vector", tmp_path / "own.gguf"))
    assert (alone["text"], alone["positions"], alone["bundle"]) == (steered["text"], "decode", None)
    halves = ["--control-vector-scaled", f"{tmp_path / 'own.gguf'}:0.25"] * 2
    halves += ["--control-vector-scaled", f"{tmp_path / 'minus.gguf'}:-0.5"]
    assert answers(cli(*common, *halves))["text"] == steered["text"]
    undone = answers(cli(*common, "-g", tiny_bundle, "--control-vector", tmp_path / "minus.gguf"))
    assert undone["text"] == answers(cli(*common, "--off"))["text"] != steered["text"]
    assert undone["bundle"] == steered["bundle"]


def test_a_strangers_file_steers_all_tokens(tiny_gguf: Path, tmp_path: Path) -> None:
    path = written(noise(3), tmp_path / "v.gguf")
    engine = atv_local.load(tiny_gguf, control_vectors=[(path, 2.0)])
    assert engine.steering.positions is Positions.ALL
    assert engine.vector("anything") == 2 * noise(3)


def test_an_answer_can_have_other_control_vectors_than_its_engine(
    target: Target, tiny_generator: Generator, tmp_path: Path
) -> None:
    file = ControlVector.load(written(noise(5), tmp_path / "five.gguf"))
    engine = Engine(target, tiny_generator, [noise(4)])
    own = tiny_generator("fig")
    assert engine.vector("fig") == own + noise(4)
    other = engine.with_control_vectors([(file, 2.0)], Steering(0.5, (1, 2)))
    assert engine.vector("fig", steering=other) == own + 2 * noise(5)
    assert (other.strength, other.layers) == (0.5, (1, 2))
    answer = engine.answer("fig", steering=other, max_tokens=2)
    assert answer.as_dict()["control_vectors"] == [{"name": "five.gguf", "sha256": file.sha256[:12], "scale": 2.0}]
    assert (
        answer.text
        == engine.answer("fig", vector=own + 2 * noise(5), steering=Steering(0.5, (1, 2)), max_tokens=2).text
    )
    assert next(engine.answer_many(["fig"], steering=other, max_tokens=2)).text == answer.text
    none = engine.with_control_vectors([])
    assert engine.vector("fig", steering=none) == own
    assert engine.answer("fig", steering=none, max_tokens=1).as_dict()["control_vectors"] == []
    assert [one["name"] for one in engine.answer("fig", max_tokens=1).as_dict()["control_vectors"]] == ["vector"]
    assert engine.answer("fig", steering=OFF, max_tokens=1).as_dict()["control_vectors"] == []
    with pytest.raises(UsageError, match="`vector`"):
        engine.answer("fig", vector=own, steering=other)


def test_a_base_engine_steers_by_control_vectors_of_an_answer(target: Target, tmp_path: Path) -> None:
    engine = Engine(target)
    write_control_vector(noise(1), tmp_path / "last.gguf", provenance={"positions": "last"})
    steering = engine.with_control_vectors([tmp_path / "last.gguf"])
    assert (steering.strength, steering.layers, steering.positions) == (1, None, Positions.LAST)
    assert engine.vector("fig", steering=steering) == noise(1)
    assert engine.with_control_vectors([np.ones((3, 64))]).positions is Positions.ALL
    assert engine.answer("fig", steering=steering, max_tokens=3).text != engine.answer("fig", max_tokens=3).text
    with pytest.raises(VectorError, match="the target has 1-3"):
        engine.with_control_vectors([np.ones((4, 64))])
    with pytest.raises(UsageError, match="`control_vectors`"):
        Steering(control_vectors=["last.gguf"])  # type: ignore[list-item]  # the mistake under test


def test_the_bundles_layers_are_not_those_of_control_vectors(
    tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / "atv.json").read_text())
    manifest["injection"]["layers"] = [1, 1]
    (bundle / "atv.json").write_text(json.dumps(manifest))
    with atv_local.load(tiny_gguf, bundle, n_threads=1) as engine:
        own = engine.generator("fig") if engine.generator else None
        steering = engine.with_control_vectors([noise(4)])
        assert own is not None
        assert steering.apply(engine.vector("fig", steering=steering)) == own.only(1, 1) + noise(4)
        assert engine.with_control_vectors([], steering).layers == engine.steering.layers == (1, 1)


def test_the_command_writes_the_vector_of_a_query(tiny_bundle: Path, tmp_path: Path) -> None:
    generator = Generator(Bundle(tiny_bundle))
    output = tmp_path / "v.gguf"
    result = cli("vector", "apple 1", "-g", tiny_bundle, "-o", output, "--strength", 0.5, "--layers", "2-3")
    assert (result.exit_code, result.stdout) == (0, f"{output}\n"), result.stderr
    found = read_control_vector(output)
    assert np.allclose(found.vector(ROWS).array, 0.5 * generator("apple 1").only(2, 3).array)
    assert found.model_hint == "llama"
    assert found.provenance["bundle"] == generator.bundle.id
    assert found.provenance["positions"] == "decode"


def test_the_command_writes_the_mean_over_a_file(tiny_bundle: Path, tmp_path: Path) -> None:
    generator = Generator(Bundle(tiny_bundle))
    queries = ["apple 1", "cat 2", "fig 3"]
    expected = np.mean([generator(query).array for query in queries], axis=0)
    (tmp_path / "q.txt").write_text("\n".join(queries) + "\n\n")
    (tmp_path / "q.jsonl").write_text("".join(json.dumps({"input": query, "output": "a"}) + "\n" for query in queries))
    (tmp_path / "q.CSV").write_text("output,input\n" + "".join(f"a,{query}\n" for query in queries))
    (tmp_path / "named.csv").write_text("input,words\n" + "".join(f"a,{query}\n" for query in queries))
    for name, more in {"q.txt": [], "q.jsonl": [], "q.CSV": [], "named.csv": ["--column", "input=words"]}.items():
        result = cli(
            "vector", "-f", tmp_path / name, *more, "-g", tiny_bundle, "-o", tmp_path / "v.gguf", "--overwrite"
        )
        assert result.exit_code == 0, result.stderr
        found = read_control_vector(tmp_path / "v.gguf")
        assert np.allclose(found.vector(ROWS).array, expected, atol=1e-6)
        assert found.provenance["n_queries"] == "3"
    before = (tmp_path / "v.gguf").read_bytes()
    refused = cli("vector", "fig 1", "-g", tiny_bundle, "-o", tmp_path / "v.gguf")
    assert (refused.exit_code, "--overwrite" in refused.stderr) == (2, True)
    assert (tmp_path / "v.gguf").read_bytes() == before


def test_python_and_the_command_write_the_same_file(tiny_gguf: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    query, by_python, by_command = "apple 1", tmp_path / "p.gguf", tmp_path / "c.gguf"
    with atv_local.load(tiny_gguf, tiny_bundle, n_threads=1) as engine:
        expected = engine.answer(query, max_tokens=6)
        engine.control_vector([query]).save(by_python)
    assert cli("vector", query, "-g", tiny_bundle, "-o", by_command).exit_code == 0
    assert by_python.read_bytes() == by_command.read_bytes()
    with atv_local.load(tiny_gguf, control_vectors=[by_python], n_threads=1) as engine:
        found = engine.answer(query, max_tokens=6)
    assert (found.text, found.steering.positions) == (expected.text, expected.steering.positions)
    assert cli("vector", "cat 2", "-g", tiny_bundle, "-o", by_python, "--overwrite").exit_code == 0
    assert by_python.read_bytes() != by_command.read_bytes()


def test_a_control_vector_has_the_steering_it_was_made_with(engine: Engine, tmp_path: Path) -> None:
    steering = Steering(0.5, (2, 3), Positions.LAST)
    engine.control_vector(["apple 1", "cat 2"], steering=steering).save(tmp_path / "v.gguf")
    found = read_control_vector(tmp_path / "v.gguf")
    mean = 0.5 * (engine.vector("apple 1") + engine.vector("cat 2"))
    assert np.allclose(found.vector(ROWS), 0.5 * mean.only(2, 3), atol=1e-6)
    assert found.provenance["vocabulary_sha256"] == engine.target.spec.vocabulary_sha256
    assert [found.provenance[key] for key in ("positions", "strength", "layers")] == ["last", "0.5", "2-3"]


def test_a_control_vector_of_an_engine_with_files_has_both(
    target: Target, tiny_generator: Generator, tmp_path: Path
) -> None:
    engine = Engine(target, tiny_generator, [noise(1)])
    found = engine.control_vector(["apple 1"])
    assert found.vector() == engine.vector("apple 1")
    assert "bundle" not in found.provenance  # it would not be made from that alone
    found.save(tmp_path / "v.gguf")
    found.save(tmp_path / "v.gguf", overwrite=True)


def test_a_control_vector_replaces_only_what_says_where_it_comes_from(engine: Engine, tmp_path: Path) -> None:
    foreign, made = written(noise(0), tmp_path / "v.gguf"), engine.control_vector(["apple 1"])
    before = foreign.read_bytes()
    with pytest.raises(UsageError, match=r"v\.gguf"):
        made.save(foreign, overwrite=True)
    assert foreign.read_bytes() == before
    made.save(tmp_path / "own.gguf")
    with pytest.raises(UsageError, match="overwrite"):
        made.save(tmp_path / "own.gguf")


@pytest.mark.parametrize("queries", ["apple 1", [], [""], [1], 5])
def test_a_control_vector_needs_queries(engine: Engine, queries: Any) -> None:
    with pytest.raises(UsageError):
        engine.control_vector(queries)


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["hi", "-o", "rows.jsonl"], "not a control vector"),
        (1, ["-f", "rows.csv"], "rows.csv:3"),
        (2, [], "one query"),
        (2, ["one", "-f", "rows.jsonl"], "one query"),
        (2, [" "], "the query is empty"),
        (1, ["-f", "absent.txt"], "absent.txt"),
        (1, ["-f", "empty.txt"], "empty.txt has no queries"),
        (1, ["-f", "rows.jsonl"], "rows.jsonl:2"),
        (1, ["-f", "bytes.txt"], "not UTF-8"),
    ],
)
def test_the_command_says_what_is_wrong(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("\n \n")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    Path("rows.csv").write_text("input,output\na,b\n,c\n")
    Path("rows.jsonl").write_text('{"input": "a"}\n{"text": "b"}\n')
    output = [] if "-o" in arguments else ["-o", "v.gguf"]
    result = cli("vector", *arguments, "-g", tiny_bundle, *output)
    assert (result.exit_code, result.stdout) == (code, "")
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not Path("v.gguf").exists()


def test_a_file_that_is_not_stored_in_full_is_an_error(tmp_path: Path) -> None:
    """A limit on the size of files acts as a full disk does, at every place in the file."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "v.gguf"
    TaskVector(np.ones((3, 64))).save(path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(0, len(before), 64):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(UsageError, match=re.escape(str(path))):
                TaskVector(np.zeros((3, 64))).save(path, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
