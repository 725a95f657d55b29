"""Axes stated in letters: what is read, what is refused, and which equations follow."""

import pytest

from autoprune.analysis.typing import infer
from autoprune.errors import RuleError
from autoprune.ir.graph import Graph, Node, Parameter, Value
from autoprune.ops.statement import lettered, parse
from autoprune.ops.views import Call, State


def typed(
    text: str, operands: dict[str, tuple[int, ...]], *outputs: tuple[int, ...], pin: str = ""
):
    values = {name: Value(name, shape, "float32") for name, shape in operands.items()}
    results = tuple(Value(f"y{i}", shape, "float32") for i, shape in enumerate(outputs))
    node = Node("call", "lib.op.default", values, results)
    owned = tuple(Parameter(v, (v.name,), "parameter") for v in values.values())
    rules = {"call": lettered(parse(text, pin), State.ZERO)}
    return infer(Graph((), owned, (node,), ()), rules=rules)


@pytest.mark.parametrize(
    "text",
    [
        "n i, o i + o -> n o",
        "... i, o i -> ... o",
        "n (h d) -> n h d",
        "n c, -> n c, 1",
        "a1 b -> b a1",
    ],
)
def test_text_form_parses_to_itself(text):
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "pin", "why"),
    [
        ("a b", "", "no `->`"),
        ("a -> b c?", "", "not a list of letters"),
        ("(a -> a", "", "not a list of letters"),
        ("((a b) c) -> a", "", "not a list of letters"),
        ("... a ... -> a", "", "occurs twice"),
        ("a -> ... a", "", "only an output"),
        ("a -> a", "b", "does not occur"),
    ],
)
def test_malformed_text_is_refused(text, pin, why):
    with pytest.raises(RuleError, match=why):
        parse(text, pin)


@pytest.mark.parametrize(
    ("text", "operands", "outputs", "why"),
    [
        ("a -> a", {"x": (2,), "y": (2,)}, [(2,)], "1 operands, the call 2 tensors"),
        ("a b -> a", {"x": (2,)}, [(2,)], "does not fit a tensor of 1 dimensions"),
        ("a -> a, a", {"x": (2,)}, [(2,)], "2 outputs, the call 1"),
        ("a -> a 1", {"x": (2,)}, [(2,)], "2 dimensions, traced were 1"),
        ("a 1 -> a", {"x": (2, 3)}, [(2,)], "`1` in .* meets an axis of size 3"),
        ("(a b) -> (a b)", {"x": (6,)}, [(6,)], "cannot be told apart"),
    ],
)
def test_statement_that_does_not_fit_the_call_is_refused(text, operands, outputs, why):
    with pytest.raises(RuleError, match=why):
        typed(text, operands, *outputs)


def test_equal_letters_are_the_same_axis():
    types = typed("n i, o i + o -> n o", {"x": (5, 3), "w": (4, 3), "b": (4,)}, (5, 4)).types
    assert types["x"][1] == types["w"][1]
    assert types["w"][0] == types["b"][0] == types["y0"][1]
    assert types["x"][0] == types["y0"][0] != types["x"][1]


def test_operands_that_are_absent_come_last():
    types = typed("n i, o i + o -> n o", {"x": (5, 3), "w": (4, 3)}, (5, 4)).types
    assert types["w"][0] == types["y0"][1]


def test_dots_align_from_the_right_and_broadcast():
    types = typed("... c, ... c -> ... c", {"x": (2, 5, 3), "y": (5, 3)}, (2, 5, 3)).types
    assert types["x"][1] == types["y"][0] == types["y0"][1]
    assert types["x"][0] == types["y0"][0]


def test_axis_of_size_one_meets_a_letter_without_becoming_it():
    types = typed("n c, n c -> n c", {"x": (5, 1), "y": (5, 3)}, (5, 3)).types
    assert types["y0"][1] == types["y"][1]
    assert types["x"][1].size == 1


def test_products_are_looked_inside():
    types = typed("n (h d) -> n h d", {"x": (5, 12)}, (5, 3, 4)).types
    assert types["x"][1].uids == types["y0"][1].uids | types["y0"][2].uids


def test_pinned_letters_and_made_axes_cannot_be_cut():
    result = typed("n c -> n c k", {"x": (5, 3)}, (5, 3, 7), pin="c")
    free = [axis.uids.isdisjoint(result.pins) for axis in result.types["y0"]]
    assert free == [True, False, False]


def test_cost_is_that_of_the_summed_products():
    result = typed("n i, o i + o -> n o", {"x": (5, 3), "w": (4, 3), "b": (4,)}, (5, 4))
    [node] = result.graph.nodes
    [(coefficient, axes)] = result.operator_of(node).cost(Call(node, result.types))
    assert (coefficient, sorted(axis.size for axis in axes)) == (2, [3, 4, 5])
