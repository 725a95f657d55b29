"""Allocation on answers known by hand: two groups of four units."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from math import gcd
from types import SimpleNamespace

import numpy as np
import pytest

from autoprune.errors import BudgetError
from autoprune.ir.axes import Leaf, concat, prod
from autoprune.ir.group import Group, Guarantee, Occurrence
from autoprune.passes.pruning import allocation, shares
from autoprune.passes.pruning.problem import SOLVERS, Problem
from autoprune.passes.pruning.request import Budget
from autoprune.passes.pruning.steps import Candidate, block_sizes, bundles_of

A, B = 0, 1


def candidate(uid, scores, block=1, least=1):
    leaf = Leaf(uid, np.shape(scores)[-1])
    group = Group(f"g{uid}", leaf, (Occurrence("w", 0),), Guarantee.ZERO_INVARIANT)
    return Candidate(group, np.array(scores, dtype=float), block, least)


def test_every_budget_has_a_solver():
    assert {*Budget.__annotations__} - {"latency"} == SOLVERS.keys()


def units(kept):
    return {uid: [int(u) for u in chosen] for uid, chosen in kept.items()}


def keep_share(candidates, share, ties=()):
    return shares.keep_share(Problem(bundles_of(candidates, ties), "channels", share))


def meet_budget(candidates, cost, name, share, *, ties=(), strategy="uniform", **keywords):
    costs = SimpleNamespace(**{name: cost})
    problem = Problem(bundles_of(candidates, ties), name, share, costs, strategy, **keywords)
    return allocation.meet_cost(problem)


TWO = (candidate(A, [1, 4, 2, 3]), candidate(B, [10, 10, 10, 10]))


def total(sizes):
    """Each unit costs 25 of A or of B: 200 in all."""
    return 25 * (sizes.get(A, 4) + sizes.get(B, 4))


def test_keep_share_keeps_the_best():
    assert units(keep_share(TWO, 0.5)) == {A: [1, 3], B: [0, 1]}


def test_keep_share_rounds_to_the_nearest_level():
    assert units(keep_share(TWO[:1], 0.74)) == {A: [1, 2, 3]}
    assert units(keep_share(TWO[:1], 0.01)) == {A: [1]}


def test_blocks_and_minima():
    assert units(keep_share([candidate(A, [1, 4, 2, 3], block=2)], 0.7)) == {A: [1, 3]}
    assert units(keep_share([candidate(A, [1, 4, 2, 3], least=3)], 0.1)) == {A: [1, 2, 3]}


def test_a_share_that_leaves_every_group_whole_says_what_would_not():
    with pytest.raises(BudgetError, match=r"channels=0\.9 .* first step .* 0\.75"):
        keep_share(TWO, 0.9)
    with pytest.raises(BudgetError, match="no group of units may shrink"):
        keep_share([candidate(A, [1, 4, 2, 3], block=8)], 0.1)


def test_equal_scores_keep_the_lower_index():
    assert units(keep_share([candidate(A, [1, 1, 1, 1])], 0.5)) == {A: [0, 1]}


HEADS = Leaf(9, 2)
PER_HEAD = dataclasses.replace(candidate(A, [[1, 4, 2, 3], [4, 3, 2, 1]]), outer=HEADS)


def test_each_outer_unit_keeps_its_best():
    kept = keep_share([PER_HEAD], 0.5)[A]
    assert kept.outer == HEADS.uid
    assert kept.units.tolist() == [[1, 3], [0, 1]]
    assert len(kept) == 2


def test_one_score_a_unit_keeps_the_same_everywhere():
    shared = dataclasses.replace(candidate(A, [1, 4, 2, 3]), outer=HEADS)
    assert units(keep_share([shared], 0.5)) == {A: [1, 3]}


def test_global_budget_counts_what_goes_of_every_outer_unit():
    """A's steps remove 1 and 1, then 2 and 2, of a mean of 2.5; each of B's units is its mean."""
    kept = meet_budget((PER_HEAD, TWO[1]), total, "params", 0.75, strategy="global")
    assert kept.keys() == {A}
    assert kept[A].units.tolist() == [[1, 3], [0, 1]]


def test_uniform_budget():
    assert units(meet_budget(TWO, total, "params", 0.5)) == {A: [1, 3], B: [0, 1]}
    assert units(meet_budget(TWO, total, "params", 0.25)) == {A: [1], B: [0]}


def test_global_budget_takes_the_least_relative_to_the_mean():
    """A's units score .4, .8, 1.2, 1.6 of its mean, each of B's exactly 1."""
    kept = meet_budget(TWO, total, "params", 0.75, strategy="global")
    assert units(kept) == {A: [1, 3]}


def test_units_that_save_nothing_stay():
    """Half of A is too much, so 0.3 of B go after the first 0.4 of all; C costs nothing."""
    three = (candidate(A, range(4)), candidate(B, range(10)), candidate(2, range(10)))
    kept = meet_budget(
        three, lambda s: 30 * s.get(A, 4) + 8 * s.get(B, 10), "memory", 0.57, tolerance=0.01
    )
    assert {uid: len(chosen) for uid, chosen in kept.items()} == {A: 3, B: 3, 2: 6}


@pytest.mark.parametrize(("share", "units_kept"), [(0.4, 2), (0.45, 3), (0.55, 3), (0.6, 4)])
def test_between_two_steps_the_nearer_is_taken(share, units_kept):
    six = [candidate(A, range(6))]
    kept = meet_budget(six, lambda s: s.get(A, 6), "params", share, exact=False)
    assert len(kept[A]) == units_kept
    with pytest.raises(BudgetError, match=f"nearest reachable is params={units_kept / 6:.4f}"):
        meet_budget(six, lambda s: s.get(A, 6), "params", share)


def test_ties_shrink_alike():
    pair = (candidate(A, [1, 4, 2, 3]), candidate(B, [1, 2]))
    kept = meet_budget(
        pair, lambda s: s.get(A, 4) + s.get(B, 2), "params", 0.5, ties=[frozenset({A, B})]
    )
    assert units(kept) == {A: [1, 3], B: [1]}


@pytest.mark.parametrize(
    ("units_of_a", "block_a", "units_of_b", "block_b", "least"),
    [(12, 4, 8, 1, 1), (24, 8, 12, 2, 3), (16, 16, 16, 4, 1), (30, 1, 20, 8, 7), (6, 4, 9, 2, 1)],
)
def test_tied_groups_reach_every_count_that_suits_both(
    units_of_a, block_a, units_of_b, block_b, least
):
    tied = (
        candidate(A, range(units_of_a), block_a, least),
        candidate(B, range(units_of_b), block_b, least),
    )
    reached = {(units_of_a, units_of_b)}
    for share in np.linspace(0.001, 0.999, 200):
        with suppress(BudgetError):  # where both stay whole
            kept = units(keep_share(tied, share, [frozenset((A, B))]))
            reached.add((len(kept[A]), len(kept[B])))
    steps = gcd(units_of_a, units_of_b)
    pairs = ((units_of_a * n // steps, units_of_b * n // steps) for n in range(1, steps))
    suitable = {
        (a, b) for a, b in pairs if a % block_a == 0 and b % block_b == 0 and min(a, b) >= least
    }
    assert reached == {*suitable, (units_of_a, units_of_b)}


def test_ties_that_share_a_leaf_join_up():
    three = (*TWO, candidate(2, [1, 2, 3, 4]))
    kept = keep_share(three, 0.5, [frozenset({A, B}), frozenset({B, 2})])
    assert {len(k) for k in kept.values()} == {2}
    assert len(kept) == 3


def test_ties_with_leaves_that_may_not_shrink_are_ignored():
    assert units(keep_share(TWO[:1], 0.5, [frozenset({A, 77})])) == {A: [1, 3]}


def test_unreachable_and_missed_budgets():
    with pytest.raises(BudgetError, match=r"params=0\.25 or more"):
        meet_budget(TWO, total, "params", 0.1)
    with pytest.raises(BudgetError, match=r"within 1 %.*params=0\.[56]"):
        meet_budget(TWO, total, "params", 0.56)
    with pytest.raises(BudgetError, match=r"no operator .* FLOPs"):
        meet_budget(TWO, lambda sizes: 0, "flops", 0.5)
    with pytest.raises(BudgetError, match="cannot be reached"):
        meet_budget((), lambda sizes: 10, "flops", 0.5)


@pytest.mark.parametrize("share", [0, 1, -1, 2, float("nan"), True, "half", None])
def test_shares_that_are_none(share):
    for call in (
        lambda: keep_share(TWO, share),
        lambda: meet_budget(TWO, total, "params", share),
    ):
        with pytest.raises(BudgetError):
            call()


def blocks(*axes, multiple_of=8):
    return block_sizes(axes, frozenset({A, B}), multiple_of)


def test_block_sizes_where_each_unit_is_one_position():
    assert blocks(Leaf(A, 16)) == {A: 8, B: 1}
    assert blocks(Leaf(A, 16), multiple_of=1) == {A: 1, B: 1}


def test_block_sizes_where_each_unit_owns_fixed_positions():
    leaf, pixels = Leaf(A, 16), prod(Leaf(A, 16), Leaf(9, 4))
    assert blocks(pixels)[A] == 2
    assert blocks(pixels, leaf)[A] == 8
    assert blocks(concat(leaf, leaf), pixels)[A] == 4


def test_block_sizes_where_two_free_leaves_form_a_product():
    heads, width = Leaf(A, 4), Leaf(B, 64)
    assert blocks(prod(heads, width)) == {A: 1, B: 8}
    assert blocks(prod(Leaf(A, 4), Leaf(B, 12))) == {A: 2, B: 8}


def test_comparable_scores_are_not_divided_and_costs_count_where_declared():
    """B's units matter 10 each, A's at most 4; but one of B saves as much as 40 of A."""
    candidates = (candidate(A, [1, 4, 2, 3]), candidate(B, [10, 10, 10, 10]))

    def cost(sizes):
        return sizes.get(A, 4) + 40 * sizes.get(B, 4)

    def kept(**keywords):
        found = meet_budget(
            candidates, cost, "params", 0.757, strategy="global", exact=False, tolerance=0.03,
            **keywords,
        )  # fmt: skip
        return {uid: len(units) for uid, units in found.items()}

    assert kept() == {A: 1, B: 3}
    assert kept(per_cost=True) == {B: 3}


def test_a_cost_that_the_analysis_does_not_know():
    problem = Problem(bundles_of(TWO), "energy", 0.5)
    assert units(allocation.meet(problem, total)) == {A: [1, 3], B: [0, 1]}
    with pytest.raises(BudgetError, match=r"energy=0\.5 means nothing: there is none"):
        allocation.meet(problem, lambda sizes: 0)
