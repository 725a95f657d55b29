"""Names in a hostile model: shown, written into pages and into code, and never obeyed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import autoprune as ap


def named(text: str) -> onnx.ModelProto:
    """A network in which every name contains a text."""
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.standard_normal(shape).astype(np.float32), name + text)
        for name, shape in (("a", (4, 16)), ("b", (16, 3)))
    ]
    nodes = [
        helper.make_node("MatMul", ["x" + text, "a" + text], ["h" + text], name="first" + text),
        helper.make_node("Relu", ["h" + text], ["r" + text], name="second" + text),
        helper.make_node("MatMul", ["r" + text, "b" + text], ["y" + text], name="third" + text),
    ]
    graph = helper.make_graph(
        nodes, "g" + text,
        [helper.make_tensor_value_info("x" + text, TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y" + text, TensorProto.FLOAT, [2, 3])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(
    "text", ["</script><script>alert(1)</script>", "\"'><img src=x onerror=alert(1)>"]
)
def test_a_page_shows_names_as_text(text):
    page = ap.inspect(named(text)).to_html("t" + text)
    assert "alert(1)" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page


def test_a_page_does_not_evaluate_names():
    assert "<title>{{7*7}}" in ap.inspect(named("{{7*7}}")).to_html("{{7*7}}")


@pytest.mark.parametrize(
    "code",
    ["'), open('{}', 'w'), ('", '"), open("{}", "w"), ("', ";open('{}', 'w')#", "+str(open('{}'))"],
)
def test_names_do_not_become_code(code, tmp_path):
    text = code.format(tmp_path / "flag")
    module = ap.to_torch(named(text))
    assert all(part.isidentifier() for name in module.state_dict() for part in name.split("."))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "\x1b[2J", "\r", "\n", "\u202e", "\x00"])
def test_names_that_steer_a_terminal_are_refused(text):
    with pytest.raises(ap.TraceError, match="cannot be shown") as raised:
        ap.inspect(named(text))
    assert text not in str(raised.value).partition("\n")[0]


@pytest.mark.parametrize("text", ["[bold]x[/bold][/none]", "[link=file:///]", ":smiley:", "größe"])
def test_names_are_shown_as_they_are(text):
    assert "a" + text in str(ap.inspect(named(text)))
