"""The law for each operator: what is cut off computes the same as what is set to zero."""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.analysis.experiments.conformance import examined, faults, product_faults
from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.experiments.traits import trait_faults
from autoprune.analysis.groups import Groups, find_groups
from autoprune.analysis.guarantees import spared_parameters
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.typing import TypedGraph, infer
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.equality import difference
from autoprune.frameworks.torch.network import TorchNetwork
from autoprune.frameworks.torch.trace import Traced, trace
from autoprune.ir.group import Guarantee
from autoprune.ops.rule import _OPERATORS, find
from autoprune.passes.pruning.law import prove
from autoprune.testing.networks import kept_units, removals, zeroed
from tests.effort import sampled
from tests.nesting.choices import random_choices
from tests.operators.case import Case, Net
from tests.operators.cases import CASES
from tests.tolerance import DIFFERENT, ROUNDING_DOUBLE

BY_NAME = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("name", list(BY_NAME), scope="module")
"""The tests of one case in a row, so that mostly one process analyses it."""


@cache
def analysed(name: str) -> tuple[Case, Net, Traced, TypedGraph, Groups]:
    case = BY_NAME[name]
    network = case.network()
    traced = trace(network, case.example(), dynamic_shapes=case.dynamic_shapes)
    typed = infer(traced.graph)
    return case, network, traced, typed, find_groups(typed)


def registered_name(op: str) -> str | None:
    """The name under which the rule of a node's operator is registered."""
    packet = op.rsplit(".", 1)[0] if op.count(".") > 1 else op
    return next((n for n in (op, packet, packet.removesuffix("_")) if n in _OPERATORS), None)


def full_name(name: str) -> str:
    """A name of `covers`, which leaves `aten.` out."""
    namespaces = (
        "quantized_decomposed",
        "operator",
        "math",
        "torch",
        "torchvision",
        "transformers",
    )
    return name if name.split(".")[0] in namespaces else f"aten.{name}"


def reads(network: Net, name: str, dim: int) -> bool:
    """Whether the slices of this dimension are applied to units, not what makes them."""
    path, _, tensor = name.rpartition(".")
    path, _, parametrized = path.partition(".parametrizations.")
    owner = network.get_submodule(path)
    if isinstance(owner, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        applied = 0
    else:
        sizes = ("in_features", "in_channels", "input_size")
        is_layer = owner is network or any(hasattr(owner, size) for size in sizes)
        applied = 1 if is_layer else None
    is_matrix = (parametrized or tensor).startswith("weight")
    return name.startswith("z") or (is_matrix and dim == applied)


@each_case
def test_trace_contains_the_operator(name):
    case, _, traced, _, _ = analysed(name)
    present = {registered_name(node.op) for node in traced.graph.nodes}
    wanted = {full_name(n) for n in case.covers.split()}
    assert wanted <= present


@each_case
def test_groups_are_the_expected_ones(name):
    case, _, _, typed, found = analysed(name)
    assert {f"{g.name}[{g.units}]": str(g.guarantee) for g in found} == dict(case.groups), (
        f"{found}\n{typed}"
    )


@each_case
def test_outputs_are_meaningful(name):
    case, network, _, _, _ = analysed(name)
    with torch.no_grad():
        outputs = [
            v
            for v in pytree.tree_leaves(network(*(v.clone() for v in case.example())))
            if isinstance(v, Tensor)
        ]
    assert outputs
    for output in outputs:
        assert torch.isfinite(output.double()).all()
        varies = output.numel() == 1 or output.unique().numel() > 1
        assert varies, "a constant output proves nothing"


@each_case
def test_cut_equals_zeroed(name):
    """For exact groups, alone and all together; approximate groups must really differ."""
    case, network, traced, typed, found = analysed(name)
    groups = {g.leaf.uid: g for g in found}
    example = case.example()
    rounds = [{g.leaf.uid: removed} for g in found for removed in removals(g.units, case.seeds)]
    exact = [g for g in found if g.guarantee.exact]
    for i in range(len(case.seeds) if len(exact) > 1 else 0):
        rounds.append({g.leaf.uid: removals(g.units, case.seeds)[i] for g in exact})
    differed = set()
    for removed in rounds:
        kept = {uid: kept_units(groups[uid], units) for uid, units in removed.items()}
        cut = prove(TorchNetwork(traced), typed, groups, kept).cut.model  # raises for exact groups
        with torch.no_grad():
            got = cut(*(v.clone() for v in example))
        spared = spared_parameters(typed, [groups[uid] for uid in removed])
        gap = difference(zeroed(network, example, typed, removed, spared=spared), got)
        if all(groups[uid].guarantee.exact for uid in removed):
            assert gap <= ROUNDING_DOUBLE, f"{gap} with {removed}\n{typed}"
        elif gap > DIFFERENT:
            differed.update(removed)
    if not case.weaker:
        approximate = {g.leaf.uid for g in found if not g.guarantee.exact}
        assert approximate == differed, "a group called approximate is exact"


@each_case
def test_cut_per_outer_unit_equals_zeroed(name):
    """What the rule says of the axes it mixes: heads, say, may then keep units of their own."""
    case, _, traced, typed, found = analysed(name)
    groups = {g.leaf.uid: g for g in found if g.guarantee.exact}
    outers = outer_leaves(typed, groups)
    for seed in case.seeds if outers else ():
        kept = random_choices(np.random.default_rng(seed), groups, outers)
        error = prove(TorchNetwork(traced), typed, groups, kept).error
        assert error <= ROUNDING_DOUBLE


@each_case
def test_zero_invariance_means_producers_alone(name):
    """Zeroing what feeds the operator is enough for `zero-invariant`, and not for `masked`."""
    case, network, _, typed, found = analysed(name)
    example = case.example()
    for group in found:
        if group.guarantee not in (Guarantee.ZERO_INVARIANT, Guarantee.MASKED):
            continue
        gaps = []
        for removed in removals(group.units, case.seeds):
            units = {group.leaf.uid: removed}
            spared = spared_parameters(typed, [group])
            everywhere = zeroed(network, example, typed, units, spared=spared)
            producers = zeroed(network, example, typed, units, partial(reads, network), spared)
            gaps.append(difference(everywhere, producers))
        if group.guarantee is Guarantee.ZERO_INVARIANT:
            assert max(gaps) <= ROUNDING_DOUBLE, f"{group.name} is not zero-invariant"
        elif not case.weaker:
            assert max(gaps) > DIFFERENT, f"{group.name} is zero-invariant"


@each_case
def test_products_are_what_is_computed(name):
    """The letters and windows that a rule states, summed over by einsum."""
    _, _, traced, _, _ = analysed(name)
    rules = {n.name: rule for n in traced.graph.nodes if (rule := find(n.op)) and rule.product}
    for sample in sample_calls(traced, rules).values():
        if isinstance(sample, Sample):
            rule = rules[sample.node.name]
            assert not list(product_faults(examined(sample, rule)))


_STATISTICS = "the statistics it also returns are not zero; networks read the first output alone"
UNSAMPLED = {
    "empty_like": "what it returns is not defined",
    "new_empty": "what it returns is not defined",
    "_native_batch_norm_legit": _STATISTICS,
    "resolve_neg": "numpy cannot hold what it is given",
    "chalf": "numpy cannot hold what it returns",
    "embedding_bag of maxima": "networks do not read where its maxima were",
    **dict.fromkeys(
        (case.name for case in CASES if case.name.startswith("packed")),
        "numbers of rows that do not fit abort the process",
    ),
}
"""Cases in which the call alone says nothing, and why."""


@pytest.mark.parametrize(
    "name", sampled((n for n in BY_NAME if n not in UNSAMPLED), one_in=4), scope="module"
)
def test_claims_hold_at_the_call_itself(name):
    """Whatever is put at removed positions: zeros, or anything, in each operand."""
    case, _, traced, _, _ = analysed(name)
    covered = {full_name(n) for n in case.covers.split()}
    calls = [n.name for n in traced.graph.nodes if registered_name(n.op) in covered and n.inputs]
    for sample in sample_calls(traced, calls).values():
        if isinstance(sample, Sample):
            assert not faults(examined(sample, find(sample.node.op)))


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in UNSAMPLED], scope="module")
def test_traits_hold_at_the_call_itself(name):
    """What is said of factors, moves, saturation and norms, of every registered operator."""
    case, _, traced, _, _ = analysed(name)
    covered = {full_name(n) for n in case.covers.split()}
    calls = [n.name for n in traced.graph.nodes if registered_name(n.op) in covered and n.inputs]
    for sample in sample_calls(traced, calls).values():
        if isinstance(sample, Sample):
            assert not trait_faults(examined(sample, find(sample.node.op)))


UNTESTED = {
    "tanhshrink softsign float lp_pool1d": "not an ATen operator (torch decomposes it earlier)",
    "cuda torch.ops.higher_order.flex_attention": "needs a GPU",
    "torchvision.deform_conv2d torchvision.nms torchvision.ps_roi_align torchvision.ps_roi_pool "
    "torchvision.roi_align torchvision.roi_pool": "torchvision need not be installed",
    "lift_fresh cpu sym_numel": "export leaves them out or writes them in other operators",
    "_assert_async _assert_scalar sym_constrain_range sym_constrain_range_for_size sym_stride": (
        "holds no tensor with parameter axes: export's bookkeeping of symbolic sizes"
    ),
    "scalar_tensor tril_indices triu_indices": "has no axis that meets a parameter",
}
"""Registered `aten.` operators without a case, and why."""

TORCH = ("aten", "quantized_decomposed", "torch", "torchvision", "transformers")
"""Namespaces of operators of torch and of libraries for it."""

SYMBOLIC = "operator. math. torch.sym_"
"""Arithmetic on symbolic sizes has no tensor operands; tests/frontend runs other batch sizes."""


def test_every_registered_operator_has_a_case():
    covered = {full_name(n) for case in CASES for n in case.covers.split()}
    excused = {full_name(n) for names in UNTESTED for n in names.split()}
    assert not covered & excused, "a case exists after all"
    missing = {
        n
        for n in _OPERATORS
        if n not in covered | excused
        and not n.startswith(tuple(SYMBOLIC.split()))
        and n.split(".")[0] in TORCH  # see tests/onnx for the others
    }
    assert not missing, f"no conformance case for: {' '.join(sorted(missing))}"
    assert not excused - set(_OPERATORS), "excused operators that nobody registered"


def test_case_names_are_unique():
    assert len(BY_NAME) == len(CASES)
