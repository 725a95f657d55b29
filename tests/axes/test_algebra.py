"""The laws of axis types, on random expressions and random systems of equations."""

import time
from itertools import accumulate, combinations, pairwise
from math import log2
from math import prod as product_of

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autoprune.ir.axes import (
    ENUMERATION_LIMIT,
    ONE,
    Axes,
    Axis,
    Leaf,
    Prod,
    Sum,
    concat,
    leaves,
    outer_and_inner,
    prod,
    size,
    split_at,
)
from autoprune.ir.positions import unit_positions
from autoprune.ir.reason import Reason
from tests.axes.oracle import (
    Concat,
    Name,
    Product,
    Solution,
    blocks_of_words,
    equations,
    kept_positions,
    kept_units,
    mask,
    names_in,
    recipes,
    systems,
    text,
)

EMPTY = Sum(())

# Bugs of `autoprune.ir.axes` these tests have found. Delete the mark where one is fixed.

sizes = st.integers(1, 60)
any_recipe = sizes.flatmap(recipes)


def assert_normal(axis: Axis, inside: type | None = None) -> None:
    """No needless nesting, no part that could be left out, no product that starts with a sum."""
    if isinstance(axis, Leaf):
        assert axis.size > 1
    elif isinstance(axis, Prod):
        assert inside is not Prod
        assert len(axis.factors) != 1
        assert not axis.factors or not isinstance(axis.factors[0], Sum)
        for factor in axis.factors:
            assert factor.size > 1
            assert_normal(factor, Prod)
    else:
        assert inside is not Sum
        assert len(axis.terms) != 1
        for term in axis.terms:
            assert term.size > 0
            assert_normal(term, Sum)
    assert axis.size == size(axis, {})


def brute_force(recipe, solution: Solution, kept) -> np.ndarray:
    return np.flatnonzero(mask(recipe, solution.masks(kept)))


# Construction.


@given(any_recipe)
def test_normal_form(recipe):
    axis = Solution([(recipe, recipe)]).build(recipe)
    assert_normal(axis)
    assert axis.size == len(mask(recipe, {n: np.ones(n.size, bool) for n in names_in(recipe)}))


@pytest.mark.parametrize(
    ("axis", "normal"),
    [
        (prod(), ONE),
        (prod(ONE, ONE), ONE),
        (prod(Leaf(0, 3), ONE), Leaf(0, 3)),
        (prod(Leaf(0, 3), EMPTY), EMPTY),
        (prod(EMPTY, Leaf(0, 3)), EMPTY),
        (prod(Leaf(0, 1), Leaf(1, 3)), Leaf(1, 3)),
        (concat(), EMPTY),
        (concat(EMPTY, EMPTY), EMPTY),
        (concat(Leaf(0, 3), EMPTY), Leaf(0, 3)),
        (concat(ONE), ONE),
        (concat(concat(ONE, ONE), ONE), Sum((ONE, ONE, ONE))),
        (
            prod(concat(ONE, Leaf(0, 2)), Leaf(1, 3)),
            Sum((Leaf(1, 3), Prod((Leaf(0, 2), Leaf(1, 3))))),
        ),
    ],
    ids=str,
)
def test_units_of_the_algebra(axis, normal):
    assert axis == normal
    assert_normal(axis)


@given(any_recipe, any_recipe, any_recipe)
def test_concat_is_associative(x, y, z):
    x, y, z = map(Solution([]).build, (x, y, z))
    assert concat(x, concat(y, z)) == concat(concat(x, y), z) == concat(x, y, z)


small_recipe = st.integers(1, 8).flatmap(recipes)


@given(small_recipe, small_recipe, small_recipe)
def test_prod_is_associative(x, y, z):
    x, y, z = map(Solution([]).build, (x, y, z))
    assert prod(x, prod(y, z)) == prod(prod(x, y), z) == prod(x, y, z)


def test_an_axis_has_one_normal_form():
    a, b, c, d = (Leaf(uid, uid + 2) for uid in range(4))
    assert prod(a, prod(concat(b, c), d)) == prod(prod(a, concat(b, c)), d)


@given(any_recipe, any_recipe, any_recipe)
def test_prod_distributes_over_an_outer_concat(x, y, inner):
    x, y, inner = map(Solution([]).build, (x, y, inner))
    assert prod(concat(x, y), inner) == concat(prod(x, inner), prod(y, inner))


@pytest.mark.parametrize(
    ("axis", "printed"),
    [
        (ONE, "1"),
        (EMPTY, "0"),
        (Leaf(0, 12), "12a"),
        (Leaf(25, 3), "3z"),
        (Leaf(26, 3), "3aa"),
        (Leaf(26 * 27, 3), "3aaa"),
        (prod(Leaf(0, 12), Leaf(1, 64)), "12ax64b"),
        (concat(Leaf(0, 2), ONE, prod(Leaf(1, 3), Leaf(0, 2))), "2a+1+3bx2a"),
        (prod(Leaf(0, 8), concat(Leaf(1, 16), Leaf(1, 16))), "8ax(16b+16b)"),
    ],
    ids=str,
)
def test_text_form(axis, printed):
    assert str(axis) == printed


# Positions.


@given(st.data())
def test_kept_positions_are_those_of_the_masked_reshape(data):
    recipe = data.draw(any_recipe)
    solution = Solution([(recipe, recipe)])
    axis = solution.build(recipe)
    kept = data.draw(kept_units(solution.free_leaves()))
    positions = kept_positions(axis, kept)
    np.testing.assert_array_equal(positions, brute_force(recipe, solution, kept))
    assert len(positions) == size(axis, {uid: len(units) for uid, units in kept.items()})
    np.testing.assert_array_equal(kept_positions(axis, {}), np.arange(axis.size))


@given(any_recipe)
def test_unit_positions_are_what_removing_one_unit_removes(recipe):
    solution = Solution([(recipe, recipe)])
    axis = solution.build(recipe)
    for leaf in solution.free_leaves():
        rows = unit_positions(axis, leaf.uid)
        assert len(rows) == leaf.size
        for unit, row in enumerate(rows):
            kept = {leaf.uid: np.delete(np.arange(leaf.size), unit)}
            removed = np.setdiff1d(np.arange(axis.size), kept_positions(axis, kept))
            np.testing.assert_array_equal(np.unique(row), removed)
        emptied = {leaf.uid: np.zeros(0, dtype=np.intp)}
        remaining = np.setdiff1d(np.arange(axis.size), rows)
        np.testing.assert_array_equal(remaining, kept_positions(axis, emptied))


@given(st.data())
def test_kept_positions_are_all_but_the_removed_units(data):
    recipe = data.draw(any_recipe)
    solution = Solution([(recipe, recipe)])
    axis = solution.build(recipe)
    kept = data.draw(kept_units(solution.free_leaves()))
    remaining = np.arange(axis.size)
    for leaf in solution.free_leaves():
        removed = np.setdiff1d(np.arange(leaf.size), kept[leaf.uid])
        remaining = np.setdiff1d(remaining, unit_positions(axis, leaf.uid)[removed])
    np.testing.assert_array_equal(remaining, kept_positions(axis, kept))


def crossed(axis: Axis, uid: int) -> bool:
    """Whether the leaf occurs in two factors of one product."""
    if isinstance(axis, Leaf):
        return False
    if isinstance(axis, Sum):
        return any(crossed(term, uid) for term in axis.terms)
    holding = [f for f in axis.factors if uid in {leaf.uid for leaf in leaves(f)}]
    return len(holding) > 1 or any(crossed(f, uid) for f in holding)


@given(any_recipe)
def test_units_are_disjoint_unless_a_leaf_meets_itself(recipe):
    solution = Solution([(recipe, recipe)])
    axis = solution.build(recipe)
    for leaf in solution.free_leaves():
        rows = unit_positions(axis, leaf.uid)
        assert (len(np.unique(rows)) == rows.size) == (not crossed(axis, leaf.uid))


def test_unit_positions_of_an_absent_leaf():
    assert unit_positions(Leaf(0, 3), 1).shape == (0, 0)


@given(st.data())
def test_index_maps_compose(data):
    """Looking inside a leaf changes no positions, wherever the leaf occurs."""
    outer = data.draw(any_recipe)
    name = data.draw(st.sampled_from(sorted(set(names_in(outer)), key=repr)))
    solution = Solution([(outer, outer)])
    before, hole = solution.build(outer), solution.leaf(name)
    assume(isinstance(hole, Leaf))
    assert solution.axes.unify(hole, solution.build(data.draw(recipes(name.size, names=4))))
    kept = data.draw(kept_units(solution.free_leaves()))
    leaf_by_leaf = {
        leaf.uid: kept_positions(solution.axes.resolve(leaf), kept) for leaf in leaves(before)
    }
    np.testing.assert_array_equal(
        kept_positions(solution.resolve(outer), kept), kept_positions(before, leaf_by_leaf)
    )


@given(any_recipe)
def test_split_at_undoes_concat(recipe):
    axis = Solution([]).build(recipe)
    terms = axis.terms if isinstance(axis, Sum) else (axis,)
    borders = list(accumulate((term.size for term in terms), initial=0))
    for at in range(-1, axis.size + 2):
        if at in borders:
            first, second = split_at(axis, at)
            assert (first.size, second.size) == (at, axis.size - at)
            assert concat(first, second) == axis
        else:
            with pytest.raises(ValueError, match="not a boundary"):
                split_at(axis, at)


@given(any_recipe, any_recipe)
def test_concat_then_split_at(x, y):
    x, y = map(Solution([]).build, (x, y))
    assert split_at(concat(x, y), x.size) == (x, y)


@given(any_recipe)
def test_outer_and_inner_undoes_prod(recipe):
    axis = Solution([]).build(recipe)
    for inner_size in range(1, axis.size + 1):
        try:
            outer, inner = outer_and_inner(axis, inner_size)
        except ValueError:
            continue
        assert inner.size == inner_size
        assert prod(outer, inner) == axis


@given(any_recipe, st.integers(2, 20))
def test_prod_then_outer_and_inner(recipe, width):
    outer, inner = Solution([]).build(recipe), Leaf(1000, width)
    assert outer_and_inner(prod(outer, inner), width) == (outer, inner)


@pytest.mark.parametrize("outer", [concat(ONE, Leaf(0, 3)), concat(ONE, ONE)], ids=str)
def test_outer_and_inner_of_a_sum_within_a_lone_row(outer):
    inner = concat(Leaf(1, 16), Leaf(2, 16))
    assert outer_and_inner(prod(outer, inner), inner.size) == (outer, inner)


def test_outer_and_inner_of_the_empty_axis():
    with pytest.raises(ValueError, match="not a product"):
        outer_and_inner(EMPTY, 5)


@pytest.mark.parametrize("inner_size", [2, 5, 6, 8, 24])
def test_outer_and_inner_refuses_what_is_no_product(inner_size):
    with pytest.raises(ValueError, match="not a product"):
        outer_and_inner(concat(prod(Leaf(0, 3), Leaf(1, 4)), Leaf(1, 4)), inner_size)


# Unification.


@given(equations())
def test_unify_keeps_sizes_and_normal_form(equation):
    solution = Solution([equation])
    for recipe in (*equation, *solution.named):
        resolved = solution.resolve(recipe)
        assert_normal(resolved)
        assert resolved.size == solution.build(recipe).size


@given(equations())
def test_unify_makes_equal(equation):
    solution = Solution([equation])
    left, right = map(solution.resolve, equation)
    assert left == right


@given(systems(misfits=True))
def test_unify_is_idempotent(system):
    once, twice = Solution(system), Solution([*system, *system])
    assert once.units() == twice.units()
    assert twice.solved == once.solved * 2
    bound = dict(twice.axes._bound)
    for a, b in system:
        twice.axes.unify(twice.build(a), twice.build(b))
    assert twice.axes._bound.keys() == bound.keys()


@given(st.data())
def test_order_and_sides_do_not_matter(data):
    system = data.draw(systems(misfits=True))
    order = data.draw(st.permutations(range(len(system))))
    swapped = data.draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    again = [system[i][::-1] if swap else system[i] for i, swap in zip(order, swapped, strict=True)]
    first, second = Solution(system), Solution(again)
    assert [first.solved[i] for i in order] == second.solved
    assert first.units() == second.units()


@given(st.data())
def test_unify_is_transitive(data):
    n = data.draw(sizes)
    a, b, c = (data.draw(recipes(n)) for _ in range(3))
    solution = Solution([(a, b), (b, c)])
    assert solution.resolve(a) == solution.resolve(c)


@given(st.data())
def test_solutions_are_sound(data):
    """Whatever units are kept, the two sides of a solved equation keep the same positions."""
    system = data.draw(systems(misfits=True))
    solution = Solution(system)
    kept = data.draw(kept_units(solution.free_leaves()))
    for (a, b), solved in zip(system, solution.solved, strict=True):
        left, right = kept_positions(solution.resolve(a), kept), brute_force(b, solution, kept)
        if solved:
            np.testing.assert_array_equal(left, right)
        else:
            np.testing.assert_array_equal(left, np.arange(len(left)))
            np.testing.assert_array_equal(right, np.arange(len(right)))


@given(systems(misfits=True))
def test_failed_equations_pin_both_sides_and_say_where(system):
    solution = Solution(system)
    failed = {f"equation {i}" for i, solved in enumerate(solution.solved) if not solved}
    for (a, b), solved in zip(system, solution.solved, strict=True):
        left, right = solution.resolve(a), solution.resolve(b)
        assert solved == (left.size == right.size)
        for leaf in () if solved else (*leaves(left), *leaves(right)):
            reason = solution.axes.pinned(leaf)
            assert reason is not None
            assert "differ" in reason.text
            assert reason.node.name in failed


@given(st.data())
def test_a_pin_holds_before_and_after(data):
    system = data.draw(systems())
    names = sorted({n for pair in system for side in pair for n in names_in(side)}, key=repr)
    pins = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    early, late = Solution(system, pins), Solution(system)
    for name in pins:
        late.axes.pin(late.leaf(name), f"pinned {name}")
    assert early.solved == late.solved
    assert early.units() == late.units()
    for solution in (early, late):
        for leaf in (leaf for name in pins for leaf in leaves(solution.resolve(name))):
            assert solution.axes.pinned(leaf) in {Reason(f"pinned {name}") for name in pins}


def test_the_first_reason_is_kept():
    axes = Axes()
    hidden, heads, width = axes.leaf(768), axes.leaf(12), axes.leaf(64)
    axes.pin(hidden, "first")
    axes.pin(hidden, "second")
    axes.unify(hidden, prod(heads, width))
    axes.pin(width, "third")
    assert [axes.pinned(leaf) for leaf in leaves(axes.resolve(hidden))] == [Reason("first")] * 2
    assert axes.pinned(axes.leaf(768)) is None


def test_the_first_reason_is_kept_when_pinned_leaves_merge():
    axes = Axes()
    older, newer = axes.leaf(4), axes.leaf(4)
    axes.pin(newer, "first")
    axes.pin(older, "second")
    axes.unify(older, newer)
    assert axes.pinned(axes.resolve(newer)) == Reason("first")


def test_pinning_names_one_leaf_of_many():
    axes = Axes()
    left, right = axes.leaf(3), axes.pinned_leaf(4, "it is an output")
    both = axes.leaf(7)
    assert axes.unify(both, concat(left, right))
    reasons = [axes.pinned(leaf) for leaf in leaves(axes.resolve(both))]
    assert reasons == [None, Reason("it is an output")]


@given(any_recipe, st.lists(st.integers(1, 12), max_size=4))
def test_factor_and_pieces(recipe, wanted):
    solution = Solution([])
    axis = solution.build(recipe)
    for look, join, total in (
        (solution.axes.factor, prod, product_of(wanted)),
        (solution.axes.pieces, concat, sum(wanted)),
    ):
        parts = look(axis, wanted)
        assert [part.size for part in parts] == wanted
        for part in parts:
            assert_normal(part)
        if total == axis.size:
            assert join(*parts) == solution.resolve(recipe)
        else:
            unpinned = [solution.axes.pinned(p) is None for part in parts for p in leaves(part)]
            assert not any(unpinned)


# Completeness: nothing is merged, split or pinned without need.


def words(system):
    return [tuple(tuple(names_in(side)) for side in equation) for equation in system]


def blocks_of(solution: Solution, kind: type) -> set[frozenset[tuple[Name, int, int]]]:
    """The solved leaves with all their places, as positions of a sum or digits of a product."""
    places: dict[int, set[tuple[Name, int, int]]] = {}
    for name in solution.named:
        axis, offset = solution.resolve(name), 0
        if isinstance(axis, Leaf):
            parts = (axis,)
        else:
            parts = axis.terms if isinstance(axis, Sum) else axis.factors
        for part in parts:
            length = part.size if kind is Sum else int(log2(part.size))
            if isinstance(part, Leaf):
                places.setdefault(part.uid, set()).add((name, offset, length))
            offset += length
    return {frozenset(place) for place in places.values()}


@given(systems(24, kinds="leaf concat"))
def test_concatenations_are_solved_exactly(system):
    expected = blocks_of_words(words(system))
    removable = {place for place in expected if all(length > 1 for _, _, length in place)}
    assert blocks_of(Solution(system), Sum) == removable


@given(systems(12, kinds="leaf concat"))
def test_reshapes_are_solved_exactly(system):
    """Reshapes of powers of two are concatenations of binary digits."""

    def powers(side):
        return Product(tuple(Name(2**name.size, name.which) for name in names_in(side)))

    found = blocks_of(Solution([(powers(a), powers(b)) for a, b in system]), Prod)
    found = {frozenset((Name(int(log2(n.size)), n.which), *at) for n, *at in f) for f in found}
    assert found == blocks_of_words(words(system))


context = st.sampled_from(
    [
        lambda x, w: Product((x, w)),
        lambda x, w: Product((w, x)),
        lambda x, w: Concat((x, w)),
        lambda x, w: Concat((w, x)),
    ]
)


@given(equations(24), context, st.integers(2, 6))
def test_what_both_sides_share_is_left_alone(equation, context, width):
    """`x w ~ y w` says no more than `x ~ y`, for every way to put `w` beside them."""
    own = Name(width, 9)
    inside = Solution([(context(equation[0], own), context(equation[1], own))])
    alone = Solution([equation])
    alone.leaf(own)
    assert inside.solved == alone.solved == [True]
    assert inside.units() == alone.units()


@pytest.mark.parametrize("swap", [False, True])
def test_factors_are_refined_to_common_ones(swap):
    axes = Axes()
    left, right = prod(axes.leaf(12), axes.leaf(64)), prod(axes.leaf(6), axes.leaf(128))
    assert axes.unify(right, left) if swap else axes.unify(left, right)
    assert text(axes, left, right) == ["6ax2bx64c"] * 2


def test_boundaries_are_refined_to_common_ones():
    axes = Axes()
    left, right = concat(axes.leaf(256), axes.leaf(512)), concat(axes.leaf(512), axes.leaf(256))
    assert axes.unify(left, right)
    assert text(axes, left, right) == ["256a+256b+256c"] * 2


def test_equal_pieces_are_merged():
    axes = Axes()
    first, second = axes.leaf(58), axes.leaf(58)
    assert axes.unify(prod(axes.leaf(2), axes.leaf(58)), concat(first, second))
    assert text(axes, first, second) == ["58a", "58a"]


def test_channel_shuffle():
    """cat, view(2, 58), transpose, flatten, chunk(2): each half of a branch is one group."""
    axes = Axes()
    first, second = axes.leaf(58), axes.leaf(58)
    branch, channel = axes.factor(concat(first, second), (2, 58))
    halves = axes.pieces(prod(channel, branch), (58, 58))
    assert text(axes, first, second, *halves) == ["29a+29b", "29a+29b", "29ax(2*1)", "29bx(2*1)"]


def test_splitting_between_heads():
    axes = Axes()
    hidden = axes.leaf(768)
    axes.factor(hidden, (12, 64))
    axes.pieces(hidden, (384, 384))
    assert text(axes, hidden) == ["6ax64b+6cx64b"]


def test_splitting_inside_a_head_tells_only_that_head_apart():
    axes = Axes()
    hidden = axes.leaf(12 * 64)
    axes.factor(hidden, (12, 64))
    axes.pieces(hidden, (5 * 64 + 24, 6 * 64 + 40))
    row = "24b+40c"
    assert text(axes, hidden) == [f"5ax({row})+{row}+6dx({row})"]


def test_grouped_query_attention_with_rotary_halves():
    axes = Axes()
    query, key, value = axes.leaf(8 * 32), axes.leaf(4 * 32), axes.leaf(4 * 32)
    heads, width = axes.factor(query, (8, 32))
    key_heads, key_width = axes.factor(key, (4, 32))
    value_heads, value_width = axes.factor(value, (4, 32))
    axes.unify(width, key_width)
    axes.pieces(width, (16, 16))
    axes.unify(heads, prod(key_heads, axes.leaf(2)))
    axes.unify(key_heads, value_heads)
    output = prod(axes.resolve(heads), value_width)
    assert text(axes, query, key, value, output) == [
        "4ax2bx(16c+16d)",
        "4ax(16c+16d)",
        "4ax32e",
        "4ax2bx32e",
    ]


def test_reshapes_that_straddle_leave_what_they_can():
    axes = Axes()
    left, right = prod(axes.leaf(2), axes.leaf(15)), prod(axes.leaf(3), axes.leaf(10))
    assert axes.unify(left, right)
    assert text(axes, left, right) == ["5a+5a+5a+5a+5a+5a"] * 2


def test_a_common_outer_factor_survives_a_straddle():
    axes = Axes()
    left, right = prod(axes.leaf(4), axes.leaf(9)), prod(axes.leaf(6), axes.leaf(6))
    assert axes.unify(left, right)
    assert {leaf.size for leaf in leaves(axes.resolve(left))} == {2, 3}


# Conflicts and bounds.


@pytest.mark.parametrize(("f", "g"), [(7, ENUMERATION_LIMIT + 1), (1009, 768), (768, 1009)])
def test_reshapes_beyond_the_limit_are_pinned_with_a_reason(f, g):
    axes = Axes()
    left, right = prod(axes.leaf(f), axes.leaf(g)), prod(axes.leaf(g), axes.leaf(f))
    assert axes.unify(left, right) is False
    for leaf in (*leaves(axes.resolve(left)), *leaves(axes.resolve(right))):
        assert axes.pinned(leaf) == Reason(f"a reshape mixes {f} with {g}")


def test_a_conflict_keeps_its_two_sides_apart():
    axes = Axes()
    left, right = axes.leaf(3), axes.leaf(4)
    assert axes.unify(left, right) is False
    assert text(axes, left, right) == ["3a", "4b"]
    assert axes.pinned(left) == axes.pinned(right) == Reason("sizes 3 and 4 differ")


@pytest.mark.parametrize("lengths", list(combinations([0, 1, 2, 7, 60], 2)))
def test_differing_sizes_are_the_only_conflict_of_small_axes(lengths):
    axes = Axes()
    a, b = map(axes.leaf, lengths)
    assert axes.unify(a, b) is axes.unify(b, a) is False
    assert axes.unify(a, a) is axes.unify(b, b) is True


@pytest.mark.parametrize(
    "shapes",
    [
        [(1009, 768), (768, 1009)],
        [(63, 64), (64, 63)],
        [(32, 27, 25), (25, 27, 32)],
        [(2, 500_009), (500_009, 2)],
        [(4096, 4096), (2048, 8192), (16, 1024, 1024), (8192, 2048)],
        [(2**10, 3**7), (3**7, 2**10)],
    ],
    ids=str,
)
def test_large_axes_return_quickly(shapes):
    axes = Axes()
    hidden = axes.leaf(product_of(shapes[0]))
    start = time.perf_counter()
    for shape in shapes:
        parts = axes.factor(hidden, shape)
        assert [part.size for part in parts] == list(shape)
    assert time.perf_counter() - start < 5


def test_long_concatenations_return_quickly():
    axes = Axes()
    hidden = axes.leaf(4096)
    start = time.perf_counter()
    axes.pieces(hidden, [16] * 256)
    axes.pieces(hidden, [4] * 1024)
    axes.pieces(hidden, [1024] * 4)
    assert time.perf_counter() - start < 5
    assert len(axes.resolve(hidden).terms) == 1024


@pytest.mark.parametrize(
    ("count", "latest_first"),
    [(3000, False), (200, True), (3000, True)],
)
def test_long_chains_of_equal_axes(count, latest_first):
    axes = Axes()
    chain = [axes.leaf(8) for _ in range(count)]
    links = list(pairwise(chain))
    for a, b in reversed(links) if latest_first else links:
        assert axes.unify(a, b)
    assert text(axes, chain[0], chain[-1]) == ["8a", "8a"]


@pytest.mark.parametrize("count", [100, 1000])
def test_long_chains_of_slices(count):
    axes = Axes()
    hidden = rest = axes.leaf(2 * count)
    for _ in range(count - 1):
        _, rest = axes.pieces(rest, (2, rest.size - 2))
    assert len(axes.resolve(hidden).terms) == count
