"""Artifacts as folders of plain files."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from autoprune.runtime import ArtifactError, TargetError, TensorSpec, extract
from autoprune.runtime.cpu import Cpu
from tests.runtime.artifacts import X, dense_contents, network
from tests.runtime.test_commands import command  # noqa: F401, a fixture


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


EXAMPLES = ["examples/0/input0.npy", "examples/0/output0.npy"]


@pytest.mark.parametrize("trust", ["digest", "trust_native"])
def test_a_trusted_artifact_with_native_code(trust, native, library, tmp_path):
    path, digest = native
    made = extract(path, tmp_path / "out", **{trust: digest if trust == "digest" else True})
    assert (made.backend, made.notice, made.digest) == ("native here", None, digest)
    folder = tmp_path / "out"
    assert files(folder) == [*EXAMPLES, "manifest.json", "model.onnx", "operators.so"]
    assert (folder / "model.onnx").read_bytes() == network("custom")
    assert (folder / "operators.so").read_bytes() == library
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["artifact"], manifest["library"]) == (digest, "operators.so")
    # What it says is all that another program needs.
    (example,) = manifest["examples"]
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(folder / manifest["library"]))
    session = onnxruntime.InferenceSession(folder / manifest["model"], options)
    given = {name: np.load(folder / file) for name, file in example["inputs"].items()}
    np.testing.assert_array_equal(given["x"], X)
    for name, file in example["outputs"].items():
        (got,) = session.run([name], given)
        np.testing.assert_array_equal(got, np.load(folder / file))


@pytest.mark.parametrize("options", [{}, {"native": False, "trust_native": True}])
def test_without_trust_there_is_no_native_code(options, native, tmp_path):
    made = extract(native[0], tmp_path / "out", **options)
    assert made.backend == "dense"
    assert (made.notice is None) == bool(options)
    assert files(tmp_path / "out") == [*EXAMPLES, "manifest.json", "model.onnx"]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == network("standard")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["library"] is None


def test_another_processor(native, tmp_path, monkeypatch):
    path, digest = native
    monkeypatch.setattr(
        "autoprune.runtime.choice.this_cpu", lambda: Cpu("linux", "riscv64", frozenset())
    )
    with pytest.raises(TargetError, match="no library of the artifact runs"):
        extract(path, tmp_path / "out", digest=digest)
    assert not (tmp_path / "out").exists()
    assert extract(path, tmp_path / "out", digest=digest, fallback=True).backend == "dense"


def test_nothing_is_written_of_a_bad_artifact(native, tmp_path):
    path, digest = native
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    broken = tmp_path / "broken.apz"
    broken.write_bytes(data)
    before = files(tmp_path)
    with pytest.raises(ArtifactError):
        extract(broken, tmp_path / "out", digest=digest)
    with pytest.raises(ArtifactError, match="another digest"):
        extract(path, tmp_path / "out", digest="0" * 64)
    assert files(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]


def test_names_of_inputs_are_not_names_of_files(save, tmp_path):
    name = "../../escaped"
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3, 4]) for n in (name, "y")]
    graph = helper.make_graph([helper.make_node("Relu", [name], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path, _ = save(
        dense_contents(),
        inputs=[TensorSpec(name, "float32", (3, 4))],
        dense=model.SerializeToString(),
        examples=[({name: X}, {"y": X})],
    )
    extract(path, tmp_path / "out")
    assert files(tmp_path / "out") == [*EXAMPLES, "manifest.json", "model.onnx"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["examples"][0]["inputs"] == {name: EXAMPLES[0]}


def test_what_is_there_stays(dense, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("precious")
    for path in (full, full / "mine"):
        with pytest.raises(FileExistsError):
            extract(dense, path)
    with pytest.raises(FileNotFoundError):
        extract(dense, tmp_path / "none" / "out")
    assert files(tmp_path) == ["full/mine", "model.apz"]
    (tmp_path / "empty").mkdir()
    extract(dense, tmp_path / "empty")
    assert "model.onnx" in files(tmp_path / "empty")


def test_on_the_command_line(command, native, tmp_path):  # noqa: F811
    path, digest = native
    out = tmp_path / "out"
    code, said, err = command("extract", path, "-o", out, "--digest", digest)
    assert (code, err) == (0, "")
    assert said.splitlines() == [f"digest {digest}", f"{out}: native here"]
    assert Path(out, "operators.so").exists()
    code, _, err = command("extract", path, "-o", tmp_path / "plain")
    assert code == 0
    assert err.startswith("note: the artifact's native code is not loaded")
    code, _, err = command("extract", path, "-o", out)
    assert code == 1
    assert "there is something already" in err
