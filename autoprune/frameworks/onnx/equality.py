"""The law for ONNX: a cut model computes what the model computes with the cut units zeroed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx

from autoprune.analysis.folding import spared_parameters
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import NotEqualError, TraceError, first_line
from autoprune.frameworks.comparison import array_difference, rounding
from autoprune.frameworks.onnx.cut import cut_model
from autoprune.frameworks.onnx.feeds import probing
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.folding import fold
from autoprune.frameworks.onnx.run import observe, with_outputs
from autoprune.frameworks.onnx.sessions import Feed, run
from autoprune.frameworks.onnx.tensors import zeroed_model
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir.graph import Graph
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, cut_array
from autoprune.ops.creation import draws

_HINT = "please report the operator named above; `ignore=` its layer meanwhile"


SATURATING = {
    "onnx.Softmax", "onnx.LogSoftmax", "onnx.Hardmax", "onnx.Sigmoid", "onnx.HardSigmoid",
    "onnx.Tanh", "onnx.Clip", "onnx.ArgMax", "onnx.ArgMin", "onnx.TopK", "onnx.Cast", "onnx.Equal",
    "onnx.Less", "onnx.Greater", "onnx.LessOrEqual", "onnx.GreaterOrEqual", "onnx.Round",
    "onnx.NonMaxSuppression", "onnx.QuantizeLinear", "onnx.DequantizeLinear",
}  # fmt: skip
"""Operators after which different numbers may look the same."""


def witnesses(graph: Graph) -> list[str]:
    """What goes into saturating operators at the end of a graph; to be compared like outputs."""
    made_by = {v.name: node for node in graph.nodes for v in node.outputs}
    found: list[str] = []
    todo = [v.name for v in graph.required]
    while todo:
        node = made_by.get(todo.pop())
        if node is not None and node.op in SATURATING:
            value = node.inputs[0].name
            if value in made_by and value not in found:
                found.append(value)
                todo.append(value)
    return found


def outputs(
    model: onnx.ModelProto,
    feed: Feed,
    names: Sequence[str] | None = None,
    *,
    optimize: bool = False,
) -> list[Any]:
    """Outputs on the given inputs: all, or those of these names."""
    return run(session_for(model, optimize=optimize), names, feed)


def difference(a: list[Any], b: list[Any]) -> float:
    """Largest relative difference between two lists of outputs; inf if they do not match."""
    if len(a) != len(b):
        return float("inf")
    return max((_gap(x, y) for x, y in zip(a, b, strict=True)), default=0.0)


def _gap(x: Any, y: Any) -> float:
    if isinstance(x, list) and isinstance(y, list):
        return difference(x, y)
    if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
        return array_difference(x, y)
    return 0.0 if x == y else float("inf")


def tolerance(results: list[Any]) -> float:
    """The rounding level of the least precise output."""
    return rounding(v.dtype.name for v in results if isinstance(v, np.ndarray))


NOISE = 4.0
"""Times the rounding that a model shows of itself that a cut model may be off."""

LOUDEST = 1e-2
"""Rounding never explains more than this."""


def _noise(model: onnx.ModelProto, feed: Feed, names: Sequence[str], expected: list[Any]) -> float:
    """What two ways to sum the same products come to, where outputs are ill-conditioned.

    ONNX Runtime's graph optimizations are another way to compute the same numbers.
    """
    other = outputs(model, feed, names, optimize=True)
    return min(LOUDEST, NOISE * difference(expected, other))


def _probed(model: onnx.ModelProto, feed: Feed, names: Sequence[str]) -> tuple[Feed, list[Any]]:
    """Inputs without arrays of zeros, if the model runs on such, and its outputs on them."""
    drawn = probing(feed)
    with suppress(Exception):  # zeros may be what an input has to be
        return drawn, outputs(model, drawn, names)
    try:
        return feed, outputs(model, feed, names)
    except Exception as failure:
        line = first_line(failure)
        raise NotEqualError(
            f"the model does not run with units set to zero: {line}",
            hint="an operator computes sizes from values that became zero; `ignore=` its layer",
        ) from failure


def _check_repeatable(graph: Graph, model: onnx.ModelProto, feed: Feed, names: list[str]) -> None:
    """Raise NotEqualError if a model computes something else when it runs again."""
    drawing = next((node for node in graph.nodes if draws(node.op)), None)
    if drawing is None:
        return
    session = session_for(model, optimize=False)
    first, second = (run(session, names, feed) for _ in range(2))
    if difference(first, second) > tolerance(first):
        raise NotEqualError(
            "the model draws random numbers, so that no cut of it can be shown to be exact",
            where=f"{drawing.op}, {drawing.source or 'a node without a name'}",
            hint="pass what is drawn as an input",
        )


def _check_defined(
    traced: TracedOnnx, feed: Feed, names: Sequence[str], zeroed: Sequence[Any]
) -> None:
    """Refuse models whose outputs are no numbers.

    Raises:
        NotEqualError: if they are some until units are set to zero.
        TraceError: if none is on the example inputs.
    """
    floats = [v for v in _floats(zeroed) if v.size]
    if any(np.isnan(v).any() for v in floats):
        original = _floats(outputs(with_outputs(traced.model, names), feed, names))
        if not any(np.isnan(v).any() for v in original):
            raise NotEqualError(
                "once the removed units are zero, the model computes what is not a number",
                hint="`ignore=` the layers before the operator that is not defined for zeros",
            )
    if floats and not any(np.isfinite(v).any() for v in floats):
        raise TraceError(
            "no output is a finite number on the example inputs, so nothing can be compared",
            hint="give inputs without NaN and infinities",
        )


def _floats(results: Sequence[Any]) -> list[Any]:
    return [v for v in results if isinstance(v, np.ndarray) and v.dtype.kind == "f"]


def cut_error(
    traced: TracedOnnx, typed: TypedGraph, groups: Mapping[int, Group], kept: Kept
) -> tuple[float, onnx.ModelProto]:
    """How far the cut model is from the zeroed one, and the cut model.

    Raises:
        NotEqualError: if every group in `kept` is exact and the difference exceeds rounding, or
            the zeroed model draws random numbers, or if one of the two does not run.
    """
    zeroed = zeroed_model(traced, typed, kept, spared_parameters(typed, groups, kept))
    names = witnesses(traced.graph)
    seen = with_outputs(zeroed, names)
    loose = {v.name for v in traced.graph.loose}
    compared = [o.name for o in seen.graph.output if o.name not in loose]
    feed, raw = _probed(seen, traced.feed, compared)
    expected = [
        cut_array(value, typed.types[name], kept) if name in names else value
        for name, value in zip(compared, raw, strict=True)
    ]
    exact = all(groups[uid].guarantee.exact for uid in kept)
    if exact and kept:
        _check_repeatable(traced.graph, seen, feed, compared)
        _check_defined(traced, feed, compared, raw)
    cut = cut_model(fold(traced, typed, groups, kept), typed, kept)
    try:
        error = difference(expected, outputs(with_outputs(cut, names), feed, compared))
    except Exception as failure:
        line = first_line(failure)
        raise NotEqualError(
            f"the cut model does not run: {line}",
            where=first_difference(traced, typed, kept, zeroed, cut, feed),
            hint=_HINT,
        ) from failure
    if exact and error > tolerance(expected) and error > _noise(seen, feed, compared, raw):
        raise NotEqualError(
            f"the cut model differs from the zeroed one by {error:.2g}, which rounding does not "
            "explain",
            where=first_difference(traced, typed, kept, zeroed, cut, feed),
            hint=_HINT,
        )
    return error, cut


def check_unchanged(traced: TracedOnnx, small: onnx.ModelProto) -> None:
    """Check that a model computes what the original does.

    Raises:
        NotEqualError: if it does not.
    """
    names = [v.name for v in traced.graph.required]
    feed, expected = _probed(traced.model, traced.feed, names)
    error = difference(expected, outputs(small, feed, names))
    if error > tolerance(expected) and error > _noise(traced.model, feed, names, expected):
        raise NotEqualError(
            f"without what is dead the model differs by {error:.2g} from the original",
            hint="please report this; `ignore=` the groups that lost units meanwhile",
        )


def first_difference(
    traced: TracedOnnx,
    typed: TypedGraph,
    kept: Kept,
    zeroed: onnx.ModelProto,
    cut: onnx.ModelProto,
    feed: Feed,
) -> str:
    """The first value of the cut model that is not the kept part of the zeroed one's."""
    expected = observe(zeroed, feed)
    try:
        got = observe(cut, feed)
    except Exception as failure:
        return first_line(failure)
    for node in typed.graph.nodes:
        for value in node.outputs:
            before, after = expected.get(value.name), got.get(value.name)
            if not isinstance(before, np.ndarray) or not isinstance(after, np.ndarray):
                continue
            before = cut_array(before, typed.types[value.name], kept)
            if array_difference(before, after) > tolerance([before]):
                return f"%{value.name} = {node.op}, {node.source or 'a node without a name'}"
    return "the outputs themselves"
