"""Probed rules of operators whose rules are known: never freer, and what they allow is exact."""

from dataclasses import replace

import pytest

from autoprune.analysis.experiments.experiment import Sample
from autoprune.analysis.experiments.probing import probe
from autoprune.analysis.groups import find_groups
from autoprune.analysis.typing import infer
from autoprune.errors import RuleError
from autoprune.frameworks.torch.calls import sample_calls
from autoprune.frameworks.torch.network import TorchNetwork
from autoprune.frameworks.torch.trace import trace
from autoprune.ops.rule import writes_in_place
from autoprune.passes.pruning.law import prove
from autoprune.testing.networks import kept_units, rounds
from tests.effort import sampled
from tests.operators.elementwise import ELEMENTWISE
from tests.operators.reduction import REDUCTION
from tests.operators.shape import SHAPE

CASES = {case.name: case for case in (*ELEMENTWISE, *REDUCTION, *SHAPE)}


FREER = {
    "any": "what is false makes no difference",
    "count_nonzero": "zeros are not counted",
}
"""Cases in which the known rule pins more than it has to, and why."""


def probed_rules(traced, covers):
    """The rules that probing finds for the calls of some operators, as if they had none."""
    covered = tuple(f"aten.{name}" for name in covers.split())
    calls = [n.name for n in traced.graph.nodes if n.op.startswith(covered) and n.inputs]
    rules = {}
    for name, sample in sample_calls(traced, calls).items():
        if isinstance(sample, Sample):
            try:
                # That views share memory matters to graphs that write to it: not to these.
                rules[name] = probe(replace(sample, shares=False)).operator
            except RuleError:
                continue
    return rules


@pytest.mark.parametrize("name", sampled(CASES, one_in=4))
def test_probed_rule_is_never_freer_than_the_known_one(name):
    case = CASES[name]
    traced = trace(case.network(), case.example(), dynamic_shapes=case.dynamic_shapes)
    if any(writes_in_place(node.op) for node in traced.graph.nodes):
        pytest.skip("memory is shared and written to, which is not probed")
    known = {group.occurrences: group.guarantee for group in find_groups(infer(traced.graph))}
    typed = infer(traced.graph, rules=probed_rules(traced, case.covers))
    found = find_groups(typed).groups
    for group in found:
        assert name in FREER or group.occurrences in known, f"{group.name} is pinned"
        assert case.weaker or group.guarantee >= known.get(group.occurrences, group.guarantee)
    groups = {group.leaf.uid: group for group in found}
    for removed in rounds([group for group in found if group.guarantee.exact], seeds=(0,)):
        kept = {uid: kept_units(groups[uid], units) for uid, units in removed.items()}
        prove(TorchNetwork(traced), typed, groups, kept)
