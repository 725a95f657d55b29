"""The text form: what graphs, axis types and groups print is read back as it was."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune.errors import GraphError
from autoprune.ir.axes import ONE, Axis, Leaf
from autoprune.ir.graph import Graph, Node, Parameter, Value, ancestry
from autoprune.ir.group import Group, Guarantee, Occurrence, Pinned
from autoprune.ir.reason import NO_REASON, Reason
from autoprune.ir.text import parse_axis, parse_graph, parse_groups, parse_types
from tests.axes.oracle import Name, build, recipes
from tests.ir.test_graph import NETWORK, TEXT

odd = st.text(min_size=1, max_size=6) | st.sampled_from(["None", "1", "-", "a:0", "x y", "in"])
names = st.sampled_from(["x", "layer1.0.conv", "a/b_0", "relu_1"]) | odd
paths = st.sampled_from(["", "encoder", "layer1.0"]) | odd
sizes = st.integers(0, 2000)
literals = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5)
    | st.floats(allow_nan=False)
)  # fmt: skip


@st.composite
def graphs(draw) -> Graph:
    """Graphs that keep the invariants, and nothing else: of no operators that there are."""
    unused = iter(draw(st.lists(names, min_size=12, max_size=12, unique=True)))
    known: list[Value] = []

    def value() -> Value:
        shape = tuple(draw(st.lists(sizes, max_size=4)))
        known.append(
            Value(
                next(unused),
                shape,
                draw(st.sampled_from(["float32", "int", "bool"])),
                draw(st.none() | st.integers(-5, 5)),
            )
        )
        return known[-1]

    def some() -> tuple[Value, ...]:
        return tuple(draw(st.lists(st.sampled_from(known), max_size=3))) if known else ()

    inputs = tuple(value() for _ in range(draw(st.integers(0, 2))))
    kinds = st.sampled_from(["parameter", "buffer", "constant"])
    parameters = tuple(
        Parameter(v, (v.name, *draw(st.lists(names, max_size=2))), draw(kinds))
        for v in [value() for _ in range(draw(st.integers(0, 3)))]
    )
    nodes = []
    calls = draw(st.lists(names, max_size=3, unique=True))
    for name in calls:
        leaf = (literals | st.sampled_from(known)) if known else literals
        argument = st.recursive(leaf, lambda a: st.lists(a, max_size=3).map(tuple), max_leaves=4)
        arguments = draw(st.dictionaries(names, argument, max_size=3))
        outputs = tuple(value() for _ in range(draw(st.integers(0, 2))))
        own = outputs[0].name if outputs and outputs[0].name not in calls else name
        module = draw(st.lists(paths, max_size=3).map(tuple) | paths.map(ancestry))
        op = draw(st.sampled_from(["aten.relu.default", "constant.x", "my::odd op"]))
        nodes.append(Node(own, op, arguments, outputs, module, draw(st.text(max_size=9))))
    owned = [p.value for p in parameters]
    mutated = tuple(draw(st.lists(st.sampled_from(owned), max_size=2))) if owned else ()
    outputs = some()
    return Graph(inputs, parameters, tuple(nodes), outputs, mutated, outputs[1:])


@given(graphs())
def test_graphs(graph):
    assert parse_graph(str(graph)) == graph


@given(sizes.filter(bool).flatmap(recipes))
def test_axis_types(recipe):
    uids = {}

    def leaf(name: Name) -> Axis:
        return Leaf(uids.setdefault(name, 25 * len(uids)), name.size) if name.size > 1 else ONE

    axis = build(recipe, leaf)
    assert parse_axis(str(axis)) == axis


def test_thousands_of_single_positions_are_few_letters():
    assert str(parse_axis("1+1+1+2a+4000*1")) == "3*1+2a+4000*1"


places = st.builds(Occurrence, names, st.integers(0, 4))
reasons = st.just(NO_REASON) | st.builds(
    Reason, st.text(min_size=1), st.none() | st.sampled_from(NETWORK.nodes)
)


@st.composite
def groups(draw) -> Group | Pinned:
    occurrences = tuple(draw(st.lists(places, min_size=1, max_size=3)))
    name = f"{occurrences[0]}{draw(st.sampled_from(['', '/0', '/12']))}"
    size = draw(st.integers(2, 999))
    if draw(st.booleans()):
        return Pinned(name, size, occurrences, draw(reasons))
    leaf, guarantee = Leaf(draw(sizes), size), draw(st.sampled_from(Guarantee))
    spared, folds = (tuple(draw(st.lists(names, max_size=2))) for _ in range(2))
    return Group(name, leaf, occurrences, guarantee, draw(reasons), spared, folds)


@given(st.lists(groups(), max_size=3))
def test_groups(wanted):
    groups = tuple(g for g in wanted if isinstance(g, Group))
    pinned = tuple(g for g in wanted if isinstance(g, Pinned))
    text = "\n".join(map(str, (*groups, *pinned)))
    assert parse_groups(text, NETWORK) == (groups, pinned)


def test_a_graph_as_people_write_it():
    graph = parse_graph("""
        # Spaces, lines and comments are free.
        graph (%x: float32[2, 8a]) {
          %w: float32[4, 8a] = parameter(head.weight)   # tied
          %y: float32[2,4] = aten.linear.default(input=%x, weight=%w, bias=None) in head
          return %y }
    """)
    [weight], [node] = graph.parameters, graph.nodes
    assert weight == Parameter(Value("w", (4, 8), "float32"), ("w", "head.weight"), "parameter")
    assert node.name == "y"
    assert node.module == ("", "head")
    assert str(parse_graph(str(graph))) == str(graph)
    assert str(parse_graph("graph() {\n  return\n}")) == "graph() {\n  return\n}"


def test_numbers_keep_their_kind():
    call = "_ = op(a=[1, 1.0, -2, 1e+20, 1e-05, inf, nan, True]) as n"
    text = f"graph() {{\n  {call}\n  return\n}}"
    [node] = parse_graph(text).nodes
    numbers = node.arguments["a"]
    assert [type(n) for n in numbers] == [int, float, int, float, float, float, float, bool]
    assert math.isnan(numbers[6])
    assert str(parse_graph(text)) == text


WRONG = {
    "nothing": ("", "expected `graph`", 1),
    "value that is not defined": (TEXT.replace("(input=%x, dim=2)", "(input=%y)"), "not y", 4),
    "defined twice": (TEXT.replace("%bn.running_mean", "%x"), "twice", None),
    "no type": (TEXT.replace("%crop: float32", "%crop: "), "expected", 5),
    "argument without a name": (TEXT.replace("dim=1)", "1)"), "expected `=`", 9),
    "word that is no argument": (TEXT.replace("dim=1)", "dim=one)"), "not one", 9),
    "call without a name": (TEXT.replace(" as check", ""), "expected `as`", 11),
    "more behind it": (f"{TEXT}\n}}", "expected nothing more", 14),
    "cut short": (TEXT[:-1], "expected `}`", 13),
}


@pytest.mark.parametrize(("text", "what", "line"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_said_with_its_line(text, what, line):
    with pytest.raises(GraphError, match=what) as caught:
        parse_graph(text)
    assert line is None or f"line {line}," in caught.value.where


def test_sizes_are_no_axis_types():
    with pytest.raises(GraphError, match="no axis types"):
        parse_types(TEXT)


@pytest.mark.parametrize("text", ["", "a", "2a+", "2a 3b", "(2a", "x2a", "8"])
def test_no_axis_type(text):
    with pytest.raises(GraphError, match="cannot be read"):
        parse_axis(text)


@pytest.mark.parametrize(
    "text", ["8a pinned", "8a fine: w:0", "8 masked: w:0", "8a masked: w", "8 pinned: w:0; because"]
)
def test_no_group(text):
    with pytest.raises(GraphError, match="cannot be read"):
        parse_groups(text, NETWORK)
