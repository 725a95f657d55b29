"""What a report says of costs, places and the user's code."""

import pytest

from autoprune.ir.graph import Graph, Node, Value
from tests.report.networks import linear, perceptron, report

SOURCE = "net.py:7: self.attend(x)"


def softmax_over_hidden() -> Graph:
    x = Value("x", (2, 8), "float32")
    first, a = linear("a", x, 16, "a", "net.py:5: a(x)")
    soft = Node(
        "soft", "aten.softmax.int", {"self": a.outputs[0], "dim": -1},
        (Value("soft", (2, 16), "float32"),), (), SOURCE,
    )  # fmt: skip
    second, b = linear("b", soft.outputs[0], 4, "b")
    return Graph((x,), (first, second), (a, soft, b), b.outputs)


def test_a_pin_names_the_call_and_the_line_of_code():
    rows = {row.name: row for row in report(softmax_over_hidden()).pinned}
    row = rows["a.weight:0"]
    assert (row.node, row.source) == ("soft", SOURCE)
    assert "softmax" in row.reason
    assert "`" not in row.reason
    assert rows["a.weight:1"].reason == "graph input `x`"
    assert rows["a.weight:1"].source == ""


def test_shares_are_those_of_the_cut_network():
    full = report(perceptron(3))
    [first, second] = full.groups
    assert full.before.params == 8 * 16 + 2 * 16 * 16
    alone = full.before.params - (8 + 16) * 15
    assert first.params == pytest.approx(1 - alone / full.before.params)
    assert first.unit_params == 8 + 16
    assert second.unit_params == 32
    assert first.unit_flops == 2 * 2 * (8 + 16)


def test_the_least_network_keeps_one_unit_of_every_group():
    assert report(perceptron(3)).least == report(perceptron(3), keep=1).after


def test_unknown_operators_are_counted():
    x = Value("x", (2, 8), "float32")
    weight, a = linear("a", x, 16)
    calls = [
        Node(f"odd_{i}", "mine.odd.default", {"x": v}, (Value(f"odd_{i}", (2, 16), "float32"),), (),
             f"net.py:{i}: odd(x)")
        for i, v in enumerate(a.outputs * 2)
    ]  # fmt: skip
    graph = Graph((x,), (weight,), (a, *calls), tuple(c.outputs[0] for c in calls))
    [row] = report(graph).unknown_operators
    assert (row.name, row.calls, row.source) == ("mine.odd.default", 2, "net.py:0: odd(x)")
