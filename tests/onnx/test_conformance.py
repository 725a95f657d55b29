"""The law for each ONNX operator: what is cut computes the same as what is set to zero."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from autoprune.analysis.experiments.conformance import examined
from autoprune.analysis.experiments.experiment import Sample, gap
from autoprune.analysis.experiments.traits import trait_faults
from autoprune.frameworks.comparison import difference
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.network import OnnxNetwork
from autoprune.frameworks.onnx.run import observe, outputs
from autoprune.frameworks.onnx.tensors import read_tensor, zeroed_model
from autoprune.frameworks.onnx.trace import TracedOnnx, trace
from autoprune.ir.graph import Node, Value
from autoprune.ir.group import Guarantee
from autoprune.ops.onnx.pinned import NAMES as PINNED_NAMES
from autoprune.ops.rule import _OPERATORS, find
from autoprune.ops.views import Call
from autoprune.passes.pruning.analysed import Analysis, analyse
from autoprune.passes.pruning.law import prove
from autoprune.passes.pruning.request import Options
from tests.onnx.cases import CASES, Case
from tests.tolerance import CUT, DIFFERENT, ROUNDING_SINGLE

BY_NAME = {case.name: case for case in CASES}
NAMES = [pytest.param(name, id=name) for name in BY_NAME]

UNTESTED = {
    "onnx.Bernoulli", "onnx.RandomNormalLike", "onnx.RandomUniformLike", "onnx.RandomNormal",
    "onnx.RandomUniform",  # drawn anew in every run
    "onnx.Range",  # a number, but for data
    # ONNX Runtime has no kernel.
    "onnx.Swish", "microsoft.SimplifiedLayerNormalization", "microsoft.MatMulInteger16",
    "microsoft.TransposeMatMul",  # the old name of FusedMatMul
}  # fmt: skip
"""Operators with a rule and without a case, but for those pinned by one rule."""

PINNED = {name if "." in name else f"onnx.{name}" for name in PINNED_NAMES.split()}


@cache
def analysed(name: str) -> tuple[Case, TracedOnnx, Analysis]:
    case = BY_NAME[name]
    traced = trace(case.model())
    return case, traced, analyse(traced.graph, Options())


@pytest.mark.parametrize("name", NAMES)
def test_groups_are_the_expected_ones(name):
    case, traced, analysis = analysed(name)
    found = {f"{g.name}[{g.units}]": str(g.guarantee) for g in analysis.found}
    assert found == dict(case.groups), f"{analysis.found}\n{analysis.typed}"
    present = {node.op for node in traced.graph.nodes}
    wanted = {n if "." in n else f"onnx.{n}" for n in case.covers.split()}
    assert wanted <= present


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_cut_equals_zeroed(name, seed):
    _, traced, analysis = analysed(name)
    rng = np.random.default_rng(seed)
    exact = [g for g in analysis.found if g.guarantee.exact]
    kept = {
        g.leaf.uid: np.sort(rng.choice(g.units, rng.integers(1, g.units), replace=False))
        for g in exact
    }
    proof = prove(OnnxNetwork(traced), analysis.typed, analysis.groups, kept)
    error, small = proof.error, proof.cut.model
    assert error < CUT
    if all(o.type.tensor_type.HasField("shape") for o in small.graph.output):
        onnx.checker.check_model(small, full_check=True)


@pytest.mark.parametrize("name", NAMES)
def test_products_are_what_is_computed(name):
    """The letters, windows and factors that a rule states, summed over by einsum."""
    _, traced, analysis = analysed(name)
    stated = {}
    for node in traced.graph.nodes:
        describe = analysis.typed.operator_of(node).product
        found = describe and describe(Call(node, analysis.typed.types))
        if found and not found.also:
            stated[node.outputs[0].name] = found
    if not stated:
        return
    values = {p.value.name: stored(traced, p.value) for p in traced.graph.parameters}
    values |= {**traced.feed, **observe(traced.model, traced.feed)}
    for output, contraction in stated.items():
        assert gap(values[output], contraction.evaluate(values)) < ROUNDING_SINGLE


def stored(traced: TracedOnnx, value: Value) -> np.ndarray:
    return read_tensor(traced, value.name)


@pytest.mark.parametrize("name", NAMES)
def test_the_units_matter(name):
    """Otherwise nothing that is said about them could be wrong."""
    _, traced, analysis = analysed(name)
    kept = {g.leaf.uid: np.arange(1) for g in analysis.found}
    if kept:
        zeroed = outputs(zeroed_model(traced, analysis.typed, kept), traced.feed)
        assert difference(outputs(traced.model, traced.feed), zeroed) > DIFFERENT


@pytest.mark.parametrize("name", NAMES)
def test_the_units_of_zero_invariant_groups_are_zero(name):
    """With the layers that make them zeroed, what the `z` layers read makes no difference."""
    _, traced, analysis = analysed(name)
    invariant = [g for g in analysis.found if g.guarantee is Guarantee.ZERO_INVARIANT]
    for group in invariant:
        kept = {group.leaf.uid: np.arange(group.units - 1)}
        zeroed = zeroed_model(traced, analysis.typed, kept)
        readers = {t.name: t for t in traced.model.graph.initializer if t.name.startswith("z")}
        for tensor in zeroed.graph.initializer:
            if tensor.name in readers:
                tensor.CopyFrom(readers[tensor.name])
        full = zeroed_model(traced, analysis.typed, kept)
        assert difference(outputs(full, traced.feed), outputs(zeroed, traced.feed)) < CUT


def sample_of(traced: TracedOnnx, node: Node) -> Sample:
    """A call on the operands that the example inputs give it."""
    model = traced.model
    values = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    values |= {**traced.feed, **observe(model, traced.feed)}
    proto = model.graph.node[traced.positions[node.name]]
    names = dict.fromkeys(v.name for v in node.inputs)
    alone = onnx.ModelProto(ir_version=model.ir_version, graph=onnx.GraphProto(name="call"))
    alone.opset_import.extend(model.opset_import)
    alone.functions.extend(model.functions)
    alone.graph.node.append(proto)
    for name in dict.fromkeys(filter(None, proto.input)):
        dtype = helper.np_dtype_to_tensor_dtype(values[name].dtype)
        alone.graph.input.append(helper.make_tensor_value_info(name, dtype, None))
    alone.graph.output.extend(onnx.ValueInfoProto(name=v.name) for v in node.outputs)
    session = session_for(alone, optimize=False)

    def run(arguments, call):
        feed = {name: values[name] for name in filter(None, proto.input)}
        feed |= {v.name: array for v, array in paired(node.arguments, arguments)}
        return session.run([v.name for v in node.outputs], feed)

    return Sample(node, {name: values[name] for name in names}, run)


def paired(given, filled):
    """The tensors among arguments, with the arrays in their places."""
    if isinstance(given, Value):
        yield given, filled
    elif isinstance(given, tuple | dict):
        places = given if isinstance(given, dict) else range(len(given))
        for place in places:
            yield from paired(given[place], filled[place])


@pytest.mark.parametrize("name", NAMES)
def test_traits_hold_at_the_call_itself(name):
    case, traced, _ = analysed(name)
    covered = {n if "." in n else f"onnx.{n}" for n in case.covers.split()}
    for node in traced.graph.nodes:
        operator = find(node.op)
        if node.op in covered and node.inputs and node.name in traced.positions:
            assert operator is None or not trait_faults(examined(sample_of(traced, node), operator))


def test_every_rule_has_a_case():
    covered = {n if "." in n else f"onnx.{n}" for case in CASES for n in case.covers.split()}
    names = {n for n in _OPERATORS if n.startswith(("onnx.", "microsoft."))}
    assert names - covered - UNTESTED - PINNED - {"onnx.pinned"} == set()
    assert not UNTESTED - names, "excused operators that nobody registered"


def test_case_names_are_unique():
    assert len(BY_NAME) == len(CASES)
