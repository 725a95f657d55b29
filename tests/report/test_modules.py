"""Nodes as a tree of modules."""

from autoprune.ir.graph import Node, Value
from autoprune.report.html.modules import Cluster, module_tree


def call(name: str, *module: str, dtype: str = "float32") -> Node:
    return Node(name, "aten.relu.default", {}, (Value(name, (2,), dtype),), module)


def shape(cluster: Cluster):
    return [
        (child.label, shape(child)) if isinstance(child, Cluster) else child.name
        for child in cluster.children
    ]


def test_modules_nest_and_lone_calls_stay_alone():
    nodes = [
        call("stem", "stem"),
        call("a", "", "blocks", "blocks.0", "blocks.0.conv"),
        call("b", "", "blocks", "blocks.0"),
        call("c", "", "blocks", "blocks.1"),
        call("d", "", "blocks", "blocks.1", "blocks.1.act"),
        call("head"),
    ]
    tree = module_tree(nodes)
    inner = [("blocks.0", ["a", "b"]), ("blocks.1", ["c", "d"])]
    assert shape(tree) == ["stem", ("blocks", inner), "head"]
    assert list(tree.nodes()) == nodes


def test_a_module_called_twice_is_two_clusters():
    nodes = [call("a", "m"), call("b", "m"), call("between"), call("c", "m"), call("d", "m")]
    assert shape(module_tree(nodes)) == [("m", ["a", "b"]), "between", ("m", ["c", "d"])]


def test_a_chain_of_modules_with_one_child_is_one_cluster():
    nodes = [call("a", "outer", "outer.inner"), call("b", "outer", "outer.inner")]
    [cluster] = module_tree(nodes).children
    assert cluster.path == "outer.inner"


def test_runs_of_integer_calls_are_put_aside():
    masks = [call(f"m{i}", dtype=dtype) for i, dtype in enumerate(["int64", "bool"] * 2)]
    few = [call("i", dtype="int64"), call("j", dtype="bool")]
    first, *others = module_tree([*masks, call("a"), *few]).children
    assert first.aside
    assert list(first.nodes()) == masks
    assert [node.name for node in others] == ["a", "i", "j"]
