"""ONNX in, ONNX out: what is kept, how it is saved, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import autoprune as ap
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.onnx import cut as onnx_cut
from autoprune.frameworks.onnx import large as onnx_large
from autoprune.frameworks.onnx import tensors as onnx_tensors
from autoprune.frameworks.onnx.file import write_onnx
from autoprune.frameworks.onnx.run import outputs
from tests.onnx.build import Builder
from tests.tolerance import CUT, DIFFERENT


def network(batch: int | str = 2) -> onnx.ModelProto:
    b = Builder()
    x = b.convolution("a", b.input("x", (batch, 3, 8, 8)), 3, 8, 3)
    x = b.node("MaxPool", b.node("Relu", x), kernel_shape=[2, 2])
    x = b.node("Relu", b.convolution("c", x, 8, 12))
    model = b.model(b.head(x, 12))
    model.producer_name = "by hand"
    model.metadata_props.append(onnx.StringStringEntryProto(key="license", value="none"))
    model.graph.doc_string = "a graph"
    inferred = onnx.shape_inference.infer_shapes(model)
    model.graph.value_info.extend(inferred.graph.value_info)
    return model


X = {"x": np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)}


def run(path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, X)


def test_prune_and_save(tmp_path):
    onnx.save(network(), tmp_path / "net.onnx")
    result = ap.prune(tmp_path / "net.onnx", X, flops=0.5)
    assert isinstance(result.model, onnx.ModelProto)
    assert result.report.module == "ONNX"
    result.save(tmp_path / "small.onnx")
    assert difference(run(tmp_path / "small.onnx"), outputs(result.model, X)) < CUT
    assert difference(run(tmp_path / "small.onnx"), run(tmp_path / "net.onnx")) > DIFFERENT
    result.save(tmp_path / "plan.json")
    again = ap.apply_plan(network(), ap.Plan.load(tmp_path / "plan.json"))
    assert again == result.model
    assert result.measure(seconds=0.01).latency.rounds >= 5
    with pytest.raises(ap.AutopruneError, match=r"use one of .onnx, .json"):
        result.save(tmp_path / "small.pt2")


def test_the_model_is_not_changed():
    model = network()
    before = model.SerializeToString()
    ap.prune(model, channels=0.5)
    assert model.SerializeToString() == before


def test_everything_else_stays():
    model = network("batch")
    small = ap.prune(model, X, channels=0.5, ignore="z.*").model
    assert small.producer_name == "by hand"
    assert small.metadata_props[:1] == model.metadata_props  # then comes the plan
    assert small.opset_import == model.opset_import
    assert small.graph.doc_string == "a graph"
    assert [n.SerializeToString() for n in small.graph.node] == [
        n.SerializeToString() for n in model.graph.node
    ]
    old = {t.name: t for t in model.graph.initializer}
    changed = {t.name for t in small.graph.initializer if t != old[t.name]}
    assert changed == {"a.weight", "a.bias", "c.weight"}
    assert small.graph.input == model.graph.input
    assert small.graph.output == model.graph.output
    onnx.checker.check_model(small, full_check=True)


def test_declared_shapes_follow():
    small = ap.prune(network(), channels=0.5).model
    declared = {v.name: v for v in small.graph.value_info}
    del small.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(small, strict_mode=True)
    assert {v.name: v for v in inferred.graph.value_info} == declared


@pytest.mark.parametrize("external", [False, True])
def test_external_data(tmp_path, external, monkeypatch):
    folder = tmp_path / "net"
    folder.mkdir()
    onnx.save(
        network(), folder / "net.onnx", save_as_external_data=external, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    monkeypatch.setattr(onnx_large, "EXTERNAL_FROM", 0)
    result = ap.prune(folder / "net.onnx", X, channels=0.5)
    result.save(tmp_path / "small.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {
        "net", "small.onnx", *(["small.onnx.data"] if external else [])
    }  # fmt: skip
    assert difference(run(tmp_path / "small.onnx"), outputs(result.model, X)) < CUT


def test_models_too_large_for_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_large, "PROTOBUF_LIMIT", 0)
    monkeypatch.setattr(onnx_large, "EXTERNAL_FROM", 0)
    result = ap.prune(network(), X, channels=0.5)
    result.save(tmp_path / "small.onnx")
    assert (tmp_path / "small.onnx.data").exists()
    assert result.report.error < CUT
    monkeypatch.undo()
    assert difference(run(tmp_path / "small.onnx"), outputs(result.model, X)) < CUT


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/../../secret", "link"])
def test_external_data_may_not_leave_its_folder(tmp_path, location):
    (tmp_path / "secret").write_bytes(b"0" * 4096)
    folder = tmp_path / "net"
    (folder / "sub").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    path = folder / "net.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    entry = next(e for e in model.graph.initializer[0].external_data if e.key == "location")
    entry.value = location
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ap.TraceError, match="outside the model's folder"):
        ap.inspect(path)


def test_missing_external_data(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(network(), path, save_as_external_data=True, location="data", size_threshold=0)
    (tmp_path / "data").unlink()
    with pytest.raises(ap.TraceError, match=r"beside the .onnx file"):
        ap.inspect(path)
    with pytest.raises(ap.TraceError, match="files that were not loaded"):
        ap.inspect(onnx.load(path, load_external_data=False))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no model", b"\x00" * 64])
def test_no_model(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ap.TraceError, match="not an ONNX model"):
        ap.inspect(tmp_path / "net.onnx")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_models(tmp_path, share):
    data = network().SerializeToString()
    (tmp_path / "net.onnx").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ap.TraceError, match="not an ONNX model"):
        ap.inspect(tmp_path / "net.onnx")


def test_missing_files(tmp_path):
    with pytest.raises(ap.TraceError, match="cannot be read"):
        ap.prune(tmp_path / "none.onnx", flops=0.5)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"y": X["x"]}, "there is no input 'y'"),
        ({}, "nothing was given for the input 'x'"),
        ((X["x"], X["x"]), "2 inputs were given"),
        (X["x"].astype(np.float64), "wants float32 and got float64"),
        (X["x"][:1], "wants shape"),
        (X["x"][0], "wants shape"),
    ],
)
def test_wrong_inputs(inputs, message):
    with pytest.raises(ap.TraceError, match=message):
        ap.inspect(network(), inputs)


@pytest.mark.parametrize("inputs", [None, X, (X["x"],), X["x"]])
def test_ways_to_pass_inputs(inputs):
    assert ap.inspect(network(), inputs).groups


def test_custom_operators_are_named():
    b = Builder()
    x = b.linear("a", b.input("x", (5, 3)), 3, 6)
    model = b.model(b.linear("z", b.node("Magic", x, domain="my.company"), 6, 2))
    with pytest.raises(ap.TraceError, match=r"my.company.Magic"):
        ap.inspect(model)


def test_not_a_number():
    model = network()
    tensor = next(t for t in model.graph.initializer if t.name == "a.weight")
    array = onnx.numpy_helper.to_array(tensor).copy()
    array[0] = np.nan
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, "a.weight"))
    with pytest.raises(ap.GraphError, match=r"NaN or infinite(.|\n)*a.weight"):
        ap.prune(model, flops=0.5)


def test_pruned_twice(tmp_path):
    """The plan of both steps makes the same model of the original, bit for bit."""
    onnx.save(network("batch"), tmp_path / "net.onnx")
    once = ap.prune(tmp_path / "net.onnx", X, channels=0.75, multiple_of=1)
    once.save(tmp_path / "once.onnx")
    for between in (once.model, tmp_path / "once.onnx"):
        twice = ap.prune(between, X, channels=0.5, multiple_of=1)
        twice.save(tmp_path / "plan.json")
        plan = ap.Plan.load(tmp_path / "plan.json")
        assert len(plan.steps) == 2
        assert ap.apply_plan(tmp_path / "net.onnx", plan, X) == twice.model
        assert ap.prune(twice.model, X, channels=0.7, multiple_of=1).plan.earlier == plan.steps


def test_changed_between_two_prunings():
    small = ap.prune(network(), X, channels=0.75, multiple_of=1).model
    small.graph.node[1].op_type = "Tanh"
    twice = ap.prune(small, X, channels=0.5, multiple_of=1)
    assert not twice.plan.earlier
    assert "nodes were changed afterwards" in str(twice.report).replace("\n", " ")
    assert ap.apply_plan(small, twice.plan, X) == twice.model
    with pytest.raises(ap.PlanError, match="another graph"):
        ap.apply_plan(network(), twice.plan)


@pytest.mark.parametrize("note", ["", "no base64", "AAAA", "eJwDAAAAAAE="])
def test_a_damaged_note_of_an_earlier_pruning(note):
    small = ap.prune(network(), X, channels=0.75, multiple_of=1).model
    next(e for e in small.metadata_props if e.key == "autoprune.plan").value = note
    assert ap.inspect(small, X).groups
    with pytest.raises(ap.PlanError, match=r"metadata|not a plan"):
        ap.prune(small, X, channels=0.5, multiple_of=1)


def test_a_plan_for_another_model():
    plan = ap.prune(network(), channels=0.5).plan
    b = Builder()
    other = b.model(b.linear("z", b.linear("a", b.input("x", (5, 3)), 3, 6), 6, 2))
    with pytest.raises(ap.PlanError, match="another graph"):
        ap.apply_plan(other, plan)


def branch(name: str, op: str) -> onnx.GraphProto:
    """Reads a value of the outer graph."""
    out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, ["Relu3"], [name])], name, [], [out])


def test_what_a_subgraph_reads_is_pinned():
    b = Builder()
    x = b.node("Relu", b.linear("a", b.input("x", (5, 3)), 3, 6))
    flag = b.node("Less", b.node("ReduceSum", x, keepdims=0), b.scalar(0))
    y = b.node("If", flag, then_branch=branch("t", "Neg"), else_branch=branch("e", "Tanh"))
    hidden = b.node("Relu", b.linear("h", y, 6, 4))
    result = ap.prune(b.model(b.linear("z", hidden, 4, 2)), channels=0.5, multiple_of=1)
    assert [row.name for row in result.report.groups] == ["h.weight:1"]
    assert any("read by a subgraph" in row.reason for row in result.report.pinned)
    assert result.report.error < CUT


WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "onnxscript", "networkx"):
            raise ModuleNotFoundError(f"{name} is not here", name=name)

sys.meta_path.insert(0, Refuse())
import autoprune as ap
from autoprune.cli.main import main

path, out = sys.argv[1:]
result = ap.prune(path, flops=0.5)
result.save(out)
result.measure(seconds=0.01)
assert ap.apply_plan(path, result.plan) == result.model
assert ap.inspect(path).groups
assert main(["inspect", path, "--input", "x=2x3x8x8"]) == 0
assert main(["prune", path, "--params", "0.5", "-o", out]) == 0
assert main(["sparsify", out, "--format", "block 2x1", "-o", out]) == 0
assert "torch" not in sys.modules
"""


def test_torch_is_not_needed(tmp_path):
    onnx.save(network("batch"), tmp_path / "net.onnx")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, tmp_path / "net.onnx", tmp_path / "small.onnx"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "small.onnx").stat().st_size < (tmp_path / "net.onnx").stat().st_size


def test_a_wrong_cut_is_found_and_named(monkeypatch):
    right = onnx_tensors.cut_array
    monkeypatch.setattr(onnx_tensors, "cut_array", lambda *given: right(*given)[::-1])
    with pytest.raises(ap.NotEqualError, match=r"differs from the zeroed one(.|\n)*onnx.Conv"):
        ap.prune(network(), X, channels=0.5, ignore="z.*")


def test_a_cut_that_does_not_run_is_found(monkeypatch):
    b = Builder()
    x = b.linear("a", b.input("x", (2, 4, 3)), 3, 6)
    x = b.node("Relu", b.node("Reshape", x, b.ints(8, 6)))
    monkeypatch.setattr(onnx_cut, "resized_calls", lambda *given: {})
    with pytest.raises(ap.NotEqualError, match="does not run"):
        ap.prune(b.model(b.linear("z", x, 6, 2)), channels=0.5, multiple_of=1)


def test_sparse_tensors_keep_their_size():
    b = Builder()
    x = b.node("Relu", b.linear("a", b.input("x", (5, 3)), 3, 6))
    model = b.model(b.node("MatMul", b.linear("h", x, 6, 4), "sparse"))
    model.graph.sparse_initializer.append(
        helper.make_sparse_tensor(
            helper.make_tensor("sparse", TensorProto.FLOAT, [2], [1.0, 2.0]),
            helper.make_tensor("indices", TensorProto.INT64, [2], [0, 5]),
            [4, 2],
        )
    )
    result = ap.prune(model, channels=0.5, multiple_of=1)
    assert [row.name for row in result.report.groups] == ["a.weight:1"]
    assert result.report.error < CUT


WITH_FUNCTIONS = """
<ir_version: 9, opset_import: ["" : 18, "own" : 1]>
net (float[2, 3, 8, 8] x, float[16, 3, 3, 3] w1, float[16] b1, float[4, 16, 3, 3] w2, float[4] b2)
  => (float[2, 4, 4, 4] y) {
  h = own.layer (x, w1, b1)
  y = own.layer (h, w2, b2)
}
<domain: "own", opset_import: ["" : 18, "own" : 1]>
layer (x, w, b) => (y) {
  c = Conv (x, w, b)
  y = own.activation <slope = 0.1> (c)
}
<domain: "own", opset_import: ["" : 18]>
activation <slope> (x) => (y) {
  y = LeakyRelu <alpha : float = @slope> (x)
}
"""


def test_functions_of_the_model_are_inlined(tmp_path):
    model = onnx.parser.parse_model(WITH_FUNCTIONS)
    rng = np.random.default_rng(0)
    for given in [*model.graph.input][1:]:
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, given.name))
        model.graph.input.remove(given)
    onnx.checker.check_model(model)
    result = ap.prune(model, X, channels=0.5)
    assert [row.units for row in result.report.groups] == [16]
    assert not result.report.unknown_operators
    result.save(tmp_path / "small.onnx")
    assert difference(run(tmp_path / "small.onnx"), outputs(result.model, X)) < CUT


def test_functions_that_call_themselves_are_refused():
    model = onnx.parser.parse_model(WITH_FUNCTIONS.replace("LeakyRelu", "own.activation"))
    with pytest.raises(ap.TraceError, match="cannot be inlined: Cycle"):
        ap.inspect(model)


def test_external_tensors_of_half_a_byte_and_none(tmp_path):
    """Two numbers to a byte; and no file for tensors that are small enough for the graph."""
    packed = helper.make_tensor("w", TensorProto.INT4, [64, 64], bytes(range(256)) * 8, raw=True)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["w"], ["y"], to=TensorProto.INT8)], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.INT8, [64, 64])], [packed],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    write_onnx(model, tmp_path / "m.onnx", external=True)
    again = onnx.load(tmp_path / "m.onnx")
    assert again.graph.initializer[0].raw_data == packed.raw_data
    packed.dims[:], packed.raw_data = [2, 2], bytes(2)
    del model.graph.initializer[:]
    model.graph.initializer.append(packed)
    write_onnx(model, tmp_path / "small.onnx", external=True)
    assert sorted(os.listdir(tmp_path)) == ["m.onnx", "m.onnx.data", "small.onnx"]
