"""Running an ONNX model on example inputs, with a look at what it computes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import onnx

from autoprune.errors import TraceError
from autoprune.frameworks.onnx.constants import LARGEST, SMALL, Seen
from autoprune.frameworks.onnx.feeds import candidate_feeds
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.limits import check_values
from autoprune.frameworks.onnx.sessions import Feed, run

_KNOWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def run_once(model: onnx.ModelProto, example_inputs: Any) -> tuple[Feed, dict[str, Seen]]:
    """The inputs that the model ran on, and what every value was.

    Raises:
        TraceError: if ONNX Runtime cannot load it, or not run it on the inputs.
    """
    session = _open(model)
    problem: TraceError | None = None
    for feed in candidate_feeds(model, example_inputs):
        try:
            check_values(model, feed)
            values = observe(model, feed, session)
        except TraceError as error:
            problem = problem or error
        else:
            seen = {name: _seen(value) for name, value in values.items()}
            seen.update({name: _seen(array) for name, array in feed.items()})
            return feed, seen
    assert problem is not None
    hint = (
        "pass example_inputs={name: array} that it runs on"
        if example_inputs is None
        else "run it in onnxruntime.InferenceSession with these inputs until it works"
    )
    raise TraceError(problem.what, where=problem.where, hint=hint) from problem


def outputs(model: onnx.ModelProto, feed: Feed) -> list[Any]:
    """Outputs of a model as it is, without optimizations."""
    return run(session_for(model, optimize=False), None, feed)


def reader(model: onnx.ModelProto, names: Iterable[str]) -> Callable[[Feed], Feed]:
    """What finds some values that a model computes or is given, for one feed after the other."""
    given = {value.name for value in model.graph.input}
    wanted = [name for name in dict.fromkeys(names) if name not in given]
    if not wanted:
        return lambda feed: feed
    session = session_for(model, 1, outputs=wanted)
    return lambda feed: {**feed, **dict(zip(wanted, run(session, wanted, feed), strict=True))}


def _observing(model: onnx.ModelProto) -> Any:
    """A session that returns every value that a node computes."""
    every = [n for node in model.graph.node for n in node.output if n]
    return session_for(model, optimize=False, outputs=every)


def _open(model: onnx.ModelProto) -> Any:
    try:
        return _observing(model)
    except TraceError as error:
        own = {f.domain for f in model.functions}
        custom = sorted(
            f"{n.domain}.{n.op_type}"
            for n in model.graph.node
            if n.domain not in (*_KNOWN_DOMAINS, *own)
        )
        where = ", ".join(dict.fromkeys(custom))
        hint = "check it with onnx.checker.check_model"
        if where:
            hint = "models with custom operators cannot be run, and so not be checked"
        elif "NOT_IMPLEMENTED" in error.what:
            hint = "export it in an older opset, or in float32: it has to run on the CPU"
        raise TraceError(
            error.what,
            where=f"operators {where}" if where else None,
            hint=hint,
        ) from error


def observe(model: onnx.ModelProto, feed: Feed, session: Any = None) -> dict[str, Any]:
    """Every value of the main graph on the given inputs, by name."""
    session = session or _observing(model)
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, run(session, names, feed), strict=True))


def _seen(value: Any) -> Seen:
    if not isinstance(value, np.ndarray):
        return Seen((), "sequence", None)
    keep = value.size <= (LARGEST if value.dtype.kind in "iub" else SMALL)
    # What ONNX Runtime returns keeps all memory that the run took.
    return Seen(value.shape, value.dtype.name, value.copy() if keep else None)
