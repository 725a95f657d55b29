"""The law on networks nobody designed: random programs, random plans, in double precision.

Their graphs are printed and read, too.

AUTOPRUNE_FUZZ=2000 python -m pytest tests/random_graphs      # or: make fuzz
"""

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
from tests.ir.round_trip import check_round_trip
from tests.nesting.choices import random_choices
from tests.random_graphs.networks import BATCH, SIDE, RandomNetwork, programs
from tests.tolerance import ROUNDING_DOUBLE


def check(program, seed):
    network = RandomNetwork(program, seed)
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((BATCH, 3, SIDE, SIDE + 1)))
    with torch.no_grad():
        assume(bool(network(x).isfinite().all()))
    traced = trace(network, x)
    check_round_trip(traced.graph)
    typed = infer(traced.graph)
    groups = {g.leaf.uid: g for g in find_groups(typed) if g.guarantee.exact}
    kept = random_choices(rng, groups, outer_leaves(typed, groups))
    error = prove(TorchNetwork(traced), typed, groups, kept).error
    assert error <= ROUNDING_DOUBLE


@settings(
    max_examples=examples(200),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
@given(programs, st.integers(0, 1000))
def test_cut_equals_zeroed(program, seed):
    check(program, seed)
