"""Texts in a `.pt2` file that torch would evaluate, import or write into Python source."""

from __future__ import annotations

import json

import pytest

from autoprune.errors import TraceError
from autoprune.frameworks.torch.pt2 import load_pt2
from autoprune.frameworks.torch.pt2.sizes import is_size
from tests.security.programs import (
    MODEL,
    editing,
    parts,
    setting,
    write,
)

CODE = "x=open('{}', 'w')"


@pytest.mark.parametrize(
    "place",
    [
        lambda code: setting("name", code),
        lambda code: setting("name", code, 30),
        lambda code: setting("as_name", code),
        lambda code: setting("as_graph", {"name": code, "graph": {}}),
        lambda code: setting("forward_arg_names", [code, "scale"]),
        lambda code: setting("parameter_name", f'a"), {code}, ("'),
        lambda code: setting("in_spec", spec("builtins.dict", [code])),
        lambda code: setting("as_int", code),
        lambda code: setting("expr_str", code),
        lambda code: setting("parameter_name", "__class__"),
        lambda code: setting("name", "__builtins__"),
        lambda code: setting("name", "torch.load"),
    ],
)
def test_text_that_would_become_code_is_refused(tmp_path, place):
    flag = tmp_path / "flag"
    path = write(tmp_path / "net.pt2", place(CODE.format(flag)))
    with pytest.raises(TraceError, match="the file holds"):
        load_pt2(path)
    assert not flag.exists()


def spec(kind: str, context: object) -> str:
    """The structure of arguments, with a container in the place of the keyword arguments."""
    leaf = {"type": None, "context": None, "children_spec": []}
    inner = {"type": "builtins.tuple", "context": "null", "children_spec": [leaf]}
    given = context if kind == "collections.defaultdict" else json.dumps(context)
    outer = {"type": kind, "context": given, "children_spec": [leaf]}
    return json.dumps(
        [1, {"type": "builtins.tuple", "context": "null", "children_spec": [inner, outer]}]
    )


@pytest.mark.parametrize("where", ["in_spec", "out_spec"])
@pytest.mark.parametrize(
    ("kind", "context"),
    [
        (
            "collections.defaultdict",
            {
                "default_factory_module": "hostile_module",
                "default_factory_name": "x",
                "dict_context": ["scale"],
            },
        ),
        ("builtins.list", {"__enum__": True, "fqn": "hostile_module:X", "name": "A"}),
        ("builtins.dict", [{"__enum__": True, "fqn": "hostile_module:X", "name": "A"}]),
        ("hostile_module.Type", None),
    ],
)
def test_a_container_that_would_be_imported_is_refused(tmp_path, monkeypatch, where, kind, context):
    (tmp_path / "hostile_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path / "net.pt2", setting(where, spec(kind, context)))
    with pytest.raises(TraceError, match=r"the file holds (an object|the names)"):
        load_pt2(path)


def test_what_is_not_needed_is_not_read(tmp_path):
    """Guards and the traces of functions would be evaluated or looked up."""

    def edit(tree):
        tree["guards_code"] = ["open('flag', 'w')"]
        for part in parts(tree, "metadata"):
            part["metadata"]["source_fn_stack"] = "x,torch.hub.load"
        tree["graph_module"]["module_call_graph"].append(
            {"fqn": "a", "signature": {"in_spec": "[9, 1]"}}
        )
        tree["later"] = "unknown"

    module, example = load_pt2(write(tmp_path / "net.pt2", editing(MODEL, edit)))
    assert module(**example).shape == (2, 3)


@pytest.mark.parametrize("size", ["u99999999", "s0 or 1", "x.y"])
def test_a_range_of_no_size_is_refused(tmp_path, size):
    """torch counts up to the number in the name."""

    def edit(tree):
        tree["range_constraints"][size] = {"min_val": 0, "max_val": None}

    with pytest.raises(TraceError, match="range"):
        load_pt2(write(tmp_path / "net.pt2", editing(MODEL, edit)))


@pytest.mark.parametrize(
    "text",
    [
        "Symbol('s77', positive=True, integer=True)",
        "s0 + 1",
        "-s0 // 2 + 7",
        "2*s0**2",
        "Mul(Integer(3), Symbol('s77', positive=True, integer=True))",
        "Add(Pow(Symbol('s0'), Integer(2)), Integer(-1))",
        "FloorDiv(Add(Symbol('s0', integer=True), Integer(-1)), Integer(2))",
        "Equality(Mod(Symbol('u0', integer=True), Integer(4)), Integer(0))",
        "Float('0.5', precision=53)",
        "Max(Integer(1), ToFloat(Symbol('s1')))",
    ],
)
def test_sizes(text):
    assert is_size(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').getcwd()",
        "(1).__class__",
        "exec('x=1')",
        "[c for c in ()]",
        "lambda: 1",
        "s0[0]",
        "f'{s0}'",
        "eval('s0')",
        "Add('exec(1)', 1)",
        "Symbol('exec(1)')",
        "Symbol(name='s0')",
        "sympify('1')",
        "factorial(10**9)",
        "9**9**9**9",
        "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "Pow(Pow(Pow(Integer(9), 60), 60), 60)",
        "Pow(Integer(2), Symbol('s0'))",
        "LShift(Integer(1), Integer(10000000000))",
        "Float('1e999999999', precision=53)",
        "Float('1.5', precision=999999999)",
        "1" * 200_000,
        "(" * 10_000 + ")" * 10_000,
        "s0+" * 40_000 + "1",
        "s0 +",
        "",
    ],
)
def test_expressions_that_are_no_sizes(text):
    assert not is_size(text)
