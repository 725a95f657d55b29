"""What a report says of costs, places and the user's code."""

import pytest

from autoprune.ir.graph import Graph
from autoprune.ir.text import parse_graph
from tests.report.networks import perceptron, report

SOURCE = "net.py:7: self.attend(x)"


def softmax_over_hidden() -> Graph:
    return parse_graph(f"""graph(%x: float32[2,8]) {{
      %a.weight: float32[16,8] = parameter
      %b.weight: float32[4,16] = parameter
      %a: float32[2,16] = aten.linear.default(input=%x, weight=%a.weight) at "net.py:5: a(x)"
      %soft: float32[2,16] = aten.softmax.int(self=%a, dim=-1) at "{SOURCE}"
      %b: float32[2,4] = aten.linear.default(input=%soft, weight=%b.weight)
      return %b
    }}""")


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
    graph = parse_graph("""graph(%x: float32[2,8]) {
      %w: float32[16,8] = parameter
      %a: float32[2,16] = aten.linear.default(input=%x, weight=%w)
      %b: float32[2,16] = mine.odd.default(x=%a) at "net.py:0: odd(x)"
      %c: float32[2,16] = mine.odd.default(x=%a) at "net.py:1: odd(x)"
      return %b, %c
    }""")
    [row] = report(graph).unknown_operators
    assert (row.name, row.calls, row.source) == ("mine.odd.default", 2, "net.py:0: odd(x)")
