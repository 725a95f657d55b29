"""What rules say of the axes they mix holds for every operator's own cases."""

import numpy as np
import pytest

from autoprune.analysis.groups import find_groups
from autoprune.analysis.nesting import outer_leaves
from autoprune.analysis.typing import infer
from autoprune.backends.equality import cut_error
from autoprune.frontends.torch import trace
from tests.nesting.choices import random_choices
from tests.operators.cases import CASES
from tests.tolerance import ROUNDING_DOUBLE


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_cut_equals_zeroed(case):
    traced = trace(case.network(), case.example(), dynamic_shapes=case.dynamic_shapes)
    typed = infer(traced.graph)
    groups = {g.leaf.uid: g for g in find_groups(typed) if g.guarantee.exact}
    outers = outer_leaves(typed, groups)
    for seed in case.seeds if outers else ():
        kept = random_choices(np.random.default_rng(seed), groups, outers)
        error, _ = cut_error(traced, typed, groups, kept)
        assert error <= ROUNDING_DOUBLE
