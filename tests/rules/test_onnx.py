"""Operators of ONNX models that autoprune does not know: rules from outside, and probing."""

import onnx
import pytest
from onnx import helper

import autoprune as ap
from autoprune.analysis.typing import infer
from autoprune.ir.text import parse_graph
from autoprune.passes.pruning.law import _witnesses
from tests.onnx.build import Builder


@pytest.fixture
def model() -> onnx.ModelProto:
    """4 -> 8 -> 2 with a function of its own in between: 2 x + y.

    It is written in another opset, so it cannot be inlined.
    """
    build = Builder()
    x = build.input("x", (3, 4))
    left, right = build.linear("a", x, 4, 8), build.linear("b", x, 4, 8)
    mixed = build.node("Add", left, right)
    proto = build.model(build.linear("z", mixed, 8, 2))
    [node] = [n for n in proto.graph.node if mixed in n.output]
    node.op_type, node.domain = "Blend", "test.lib"
    node.attribute.append(helper.make_attribute("strength", 2.0))
    proto.opset_import.append(helper.make_opsetid("test.lib", 1))
    strength = helper.make_node("Constant", [], ["s"])
    strength.attribute.append(
        onnx.AttributeProto(
            name="value_float", ref_attr_name="strength", type=onnx.AttributeProto.FLOAT
        )
    )
    body = [
        strength,
        helper.make_node("Mul", ["p", "s"], ["scaled"]),
        helper.make_node("Add", ["scaled", "q"], ["r"]),
    ]
    opsets = [helper.make_opsetid("", build.opset - 1)]
    function = helper.make_function(
        "test.lib", "Blend", ["p", "q"], ["r"], body, opsets, ["strength"]
    )
    proto.functions.append(function)
    return proto


GROUP = {"a.weight:1": ("zero-invariant", 8)}


def groups(report):
    return {row.name: (row.guarantee, row.units) for row in report.groups}


def test_without_a_rule_it_is_pinned(model):
    report = ap.inspect(model)
    assert not report.groups
    assert [row.name for row in report.unknown_operators] == ["lib.Blend"]


def test_with_a_rule_it_is_pruned(model):
    ap.rule("lib.Blend", "n c + n c -> n c", zero=ap.State.ZERO)
    assert groups(ap.inspect(model)) == GROUP
    result = ap.prune(model, channels=0.5)
    assert next(row.kept for row in result.report.groups) == 4


def test_probing_finds_the_rule(model):
    options = ap.Options(probe=True)
    report = ap.inspect(model, options=options)
    assert groups(report) == GROUP
    assert 'ap.rule("lib.Blend", "a b + a b -> a b", zero=ap.State.ZERO)' in " ".join(report.notes)
    assert next(r.kept for r in ap.prune(model, channels=0.5, options=options).report.groups) == 4


def test_plan_of_a_probed_model_applies_to_it_again(model):
    result = ap.prune(model, channels=0.5, options=ap.Options(probe=True))
    again = ap.apply_plan(model, result.plan)
    assert again.SerializeToString() == result.model.SerializeToString()


def test_a_function_with_a_rule_is_not_inlined(model):
    ap.rule("lib.Blend", "n c + n c -> n c", zero=ap.State.ZERO)
    model.functions[0].opset_import[0].version += 1
    result = ap.prune(model, channels=0.5)
    assert "Blend" in [node.op_type for node in result.model.graph.node]
    assert next(row.kept for row in result.report.groups) == 4


def test_what_a_saturating_operator_reads_is_compared_too():
    """Its output may hide that the cut network differs."""
    graph = parse_graph("""graph(%x: float32[3]) {
      %h: float32[3] = onnx.Relu(input=%x)
      %y: float32[3] = lib.squash(tensors=[%h])
      return %y
    }""")
    assert _witnesses(infer(graph)) == []
    ap.rule("lib.squash", "n -> n", saturates=True)
    assert _witnesses(infer(graph)) == ["h"]


@pytest.mark.parametrize(("view", "witnesses"), [("relu", ["h"]), ("alias", [])])
def test_what_is_written_to_through_a_view_is_not_compared(view, witnesses):
    """It is compared as it was made, and read as it was written to."""
    graph = parse_graph(f"""graph(%x: float32[3]) {{
      %h: float32[3] = aten.tanh(input=%x)
      %v: float32[3] = aten.{view}(input=%h)
      %w: float32[3] = aten.add_.Tensor(input=%v, other=1)
      %y: float32[3] = aten.sigmoid(input=%h)
      return %y, %w
    }}""")
    assert _witnesses(infer(graph)) == witnesses
