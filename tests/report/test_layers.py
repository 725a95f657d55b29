"""The layered drawing: every item in one row, every line from its giver down to its readers."""

from hypothesis import given
from hypothesis import strategies as st

from autoprune.report.html.layers import Edge, rows_of


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 14))
    edges = []
    for source in range(count - 1):
        targets = draw(st.lists(st.integers(source + 1, count - 1), unique=True, max_size=4))
        if targets:
            edges.append(Edge(source, tuple(targets)))
    return count, edges


@given(graphs())
def test_lines_go_down_and_pass_through_every_row(graph):
    count, edges = graph
    rows = rows_of(count, edges, 0, 0)
    row_of = {item: r for r, row in enumerate(rows) for item in row if item >= 0}
    assert sorted(i for row in rows for i in row if i >= 0) == list(range(count))
    for e, (source, targets) in enumerate(edges):
        last = max(row_of[t] for t in targets)
        assert row_of[source] < min(row_of[t] for t in targets)
        passing = [r for r, row in enumerate(rows) if ~e in row]
        assert passing == list(range(row_of[source] + 1, last))
    assert all(len(set(row)) == len(row) > 0 for row in rows)


def test_ports_are_in_the_first_and_the_last_row():
    # Items 0 and 1 come in, 5 goes out; 3 takes nothing and is read by 4 only.
    edges = [Edge(0, (2,)), Edge(1, (4,)), Edge(2, (4,)), Edge(3, (4,)), Edge(4, (5,))]
    rows = rows_of(6, edges, top=2, bottom=1)
    assert set(rows[0]) == {0, 1}
    assert set(rows[1]) == {2, 3, ~1}
    assert rows[2:] == [[4], [5]]


def test_parallel_chains_do_not_cross():
    edges = [Edge(0, (3,)), Edge(1, (2,)), Edge(2, (5,)), Edge(3, (4,))]
    above, middle, below = rows_of(6, edges, 0, 0)
    follow = {0: 3, 1: 2, 3: 4, 2: 5}
    assert [follow[i] for i in above] == middle
    assert [follow[i] for i in middle] == below


def test_nothing_to_draw():
    assert rows_of(0, [], 0, 0) == []
