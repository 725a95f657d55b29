"""Example inputs for an ONNX model: those of the user, or made up from the declared types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from autoprune.errors import AutopruneError, TraceError
from autoprune.frameworks.onnx.sessions import Feed

SIZES = (64, 32, 16, 224, 128, 256, 512, 8, 4, 1)
"""Sizes tried in turn for dimensions that a model leaves open, other than the first."""

LARGEST_MADE_UP = 2**28
"""Elements of the largest input that is made up."""


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that have to be fed: those without an initializer."""
    owned = {t.name for t in model.graph.initializer}
    owned.update(t.values.name for t in model.graph.sparse_initializer)
    return [i for i in model.graph.input if i.name not in owned]


def declared_shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...] | None:
    """Sizes of a declared tensor, with names (or nothing) for open ones; None if it has none."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.dim_value > 0 else d.dim_param for d in value.type.tensor_type.shape.dim
    )


def is_dynamic(model: onnx.ModelProto) -> bool:
    """Whether an input leaves a size open."""
    shapes = [declared_shape(i) for i in graph_inputs(model)]
    return any(s is None or any(isinstance(n, str) for n in s) for s in shapes)


def candidate_feeds(model: onnx.ModelProto, example_inputs: Any) -> Iterator[Feed]:
    """The user's inputs, or inputs to be tried in turn.

    Args:
        model: the model.
        example_inputs: None, a dict by input name, a sequence in order, or the only array.

    Raises:
        TraceError: if names, number, ranks, sizes or dtypes do not fit the model.
    """
    inputs = graph_inputs(model)
    if example_inputs is not None:
        yield _given(inputs, example_inputs)
        return
    for value in inputs:
        _dtype(value)
        if declared_shape(value) is None:
            raise TraceError(
                "the model does not say what shape this input has",
                where=f"input {value.name}",
                hint="pass example_inputs={name: array}",
            )
    if not is_dynamic(model):
        yield _made_up(inputs, 1)
    else:
        yield from (_made_up(inputs, size) for size in SIZES)


def calibration_feeds(model: onnx.ModelProto, calibration: Iterable[Any]) -> list[Feed]:
    """Calibration data by the names of a model's inputs.

    Args:
        model: the model.
        calibration: inputs, each as example inputs.

    Raises:
        AutopruneError: if it is empty.
        TraceError: as `candidate_feeds`.
    """
    feeds = [next(candidate_feeds(model, batch)) for batch in calibration]
    if not feeds:
        raise AutopruneError("the calibration data is empty")
    return feeds


def _made_up(inputs: Sequence[onnx.ValueInfoProto], size: int) -> dict[str, NDArray[Any]]:
    """Small random numbers; open sizes with the same name are the same."""
    rng = np.random.default_rng(0)
    feed: dict[str, NDArray[Any]] = {}
    for value in inputs:
        shape = [
            n if isinstance(n, int) else 1 if i == 0 or "batch" in n.lower() else size
            for i, n in enumerate(declared_shape(value) or ())
        ]
        if prod(shape) > LARGEST_MADE_UP:
            raise TraceError(
                f"an input of shape {shape} is too large to be made up",
                where=f"input {value.name}",
                hint="pass example_inputs={name: array}",
            )
        dtype = _dtype(value)
        if dtype.kind in "OUS":
            feed[value.name] = np.full(shape, "a", dtype=object)
        elif dtype.kind in "iub":
            feed[value.name] = rng.integers(0, 2, shape).astype(dtype)
        else:
            feed[value.name] = rng.standard_normal(shape).astype(dtype)
    return feed


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    if not value.type.HasField("tensor_type"):
        raise TraceError(
            "only tensors can be fed, not sequences, maps or optional values",
            where=f"input {value.name}",
            hint="make it from tensors in the graph, by SequenceConstruct for example",
        )
    return np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _given(inputs: Sequence[onnx.ValueInfoProto], example: Any) -> dict[str, NDArray[Any]]:
    names = [i.name for i in inputs]
    if isinstance(example, Mapping):
        named = dict(example)
    elif isinstance(example, tuple | list):
        named = dict(zip(names, example, strict=False))
        if len(example) != len(names):
            raise _wrong(f"{len(example)} inputs were given", names)
    else:
        named = dict(zip(names, [example], strict=False))
    for name in chain(named.keys() - set(names), set(names) - named.keys()):
        what = "there is no input" if name in named else "nothing was given for the input"
        raise _wrong(f"{what} {name!r}", names)
    return {i.name: _checked(i, named[i.name]) for i in inputs}


def _wrong(what: str, names: Sequence[str]) -> TraceError:
    return TraceError(
        f"the example inputs do not fit the model: {what}",
        hint="its inputs are " + ", ".join(repr(n) for n in names),
    )


def _checked(value: onnx.ValueInfoProto, given: Any) -> NDArray[Any]:
    array, dtype = np.asarray(given), _dtype(value)
    if array.dtype != dtype and dtype.kind not in "OUS":
        raise TraceError(
            f"the model wants {dtype} and got {array.dtype}",
            where=f"input {value.name}",
            hint=f"pass array.astype({str(dtype)!r})",
        )
    shape = declared_shape(value)
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(n, int) and n != m for n, m in zip(shape, array.shape, strict=True))
    ):
        raise TraceError(
            f"the model wants shape {shape} and got {array.shape}", where=f"input {value.name}"
        )
    return array


def probing(feed: Feed) -> dict[str, NDArray[Any]]:
    """The inputs with arrays of zeros drawn at random: zeros would hide most mistakes."""
    rng = np.random.default_rng(0)
    return {
        name: array
        if array.dtype.kind not in "fV" or array.any()
        else rng.standard_normal(array.shape).astype(array.dtype)
        for name, array in feed.items()
    }
