"""Where a call comes from, as exporters write it down."""

import onnx
import pytest

from autoprune.frameworks.onnx.origin import SCOPES, STACK, modules_of, source_of
from autoprune.frameworks.origin import nested_paths, user_line

TRACE = """\
File "/home/me/net.py", line 12, in forward
    x = self.block(x)
  File "/lib/python/site-packages/torch/nn/modules/conv.py", line 565, in forward
    return self._conv_forward(input, self.weight, self.bias)
"""


def node(name: str = "", **metadata: str) -> onnx.NodeProto:
    made = onnx.helper.make_node("Relu", ["x"], ["y"], name=name)
    for key, value in metadata.items():
        made.metadata_props.add(key=key, value=value)
    return made


def test_the_innermost_line_outside_torch():
    assert user_line(TRACE) == "/home/me/net.py:12: x = self.block(x)"
    assert user_line("") == ""
    assert user_line('File "/lib/torch/nn/linear.py", line 3, in forward\n    pass\n') == ""


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("/layer1/layer1.0/conv/Conv", ("layer1", "layer1.0", "layer1.0.conv")),
        ("model/block/Conv2D", ("model", "model.block")),
        ("Conv_0", ()),
        ("", ()),
    ],
)
def test_modules_in_the_name(name, paths):
    assert modules_of(node(name)) == paths


def test_modules_in_the_metadata_win():
    scopes = "['', 'layer1', 'layer1.0', 'layer1.0.bn', 'batch_norm_2']"
    made = node("/elsewhere/Relu", **{SCOPES: scopes})
    assert modules_of(made) == ("layer1", "layer1.0", "layer1.0.bn")


@pytest.mark.parametrize("scopes", ["__import__('os')", "[", "[1, 2]", "'text'", "(" * 500])
def test_metadata_that_is_no_list_is_passed_over(scopes):
    assert modules_of(node("/a/Relu", **{SCOPES: scopes})) == ("a",)


def test_the_source_is_the_line_or_the_name_of_the_node():
    assert source_of(node("n", **{STACK: TRACE})) == "/home/me/net.py:12: x = self.block(x)"
    assert source_of(node("n")) == "node n"
    assert source_of(node()) == ""


def test_a_trace_from_a_hostile_file():
    assert user_line('File "\x1b[2Ja.py", line 3, in f\n  \n') == "\\x1b[2Ja.py"
    assert user_line('File "a.py", line 3, in f\n  x = "\x1b[2J"\n') == 'a.py:3: x = "\\x1b[2J"'
    assert nested_paths(["a\x07", "b"]) == ("a\\x07", "a\\x07.b")
