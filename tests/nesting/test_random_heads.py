"""Whatever may be chosen per outer unit: cutting equals zeroing, on networks nobody designed."""

import numpy as np
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.typing import infer
from autoprune.frameworks.torch.network import TorchNetwork
from autoprune.frameworks.torch.trace import trace
from autoprune.passes.pruning.law import prove
from tests.effort import examples
from tests.nesting.choices import random_choices
from tests.nesting.networks import TOKENS, HeadNetwork, programs
from tests.tolerance import DIFFERENT, ROUNDING_DOUBLE


def check(program, seed):
    rng = np.random.default_rng(seed)
    network = HeadNetwork(program, seed)
    x = torch.from_numpy(rng.standard_normal((2, TOKENS, 3)))
    with torch.no_grad():
        output = network(x)
    # Where everything cancels out, only rounding is left to compare.
    assume(bool(output.isfinite().all()) and output.abs().max() > DIFFERENT)
    traced = trace(network, x)
    typed = infer(traced.graph)
    groups = {g.leaf.uid: g for g in find_groups(typed) if g.guarantee.exact}
    outers = outer_leaves(typed, groups)
    kept = random_choices(rng, groups, outers)
    error = prove(TorchNetwork(traced), typed, groups, kept).error
    assert error <= ROUNDING_DOUBLE


@settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(programs, st.integers(0, 1000))
def test_cut_equals_zeroed(program, seed):
    check(program, seed)
