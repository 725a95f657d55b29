"""One operator call as something to experiment on: run it on changed and on cut operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprune.errors import RuleError, first_line
from autoprune.ir.graph import Argument, Node, Value, values_in
from autoprune.ir.positions import Indices, unit_positions
from autoprune.ops.views import Resized, Shape

Array = npt.NDArray[Any]
Operands = Mapping[str, Array]

Runner = Callable[[Mapping[str, Any], Resized], tuple[Array, ...]]
"""Calls an operator, or what takes over after a cut: the arguments by name, with arrays for
tensors, and the change of the call. Returns the tensor outputs, without the change's scale."""

UNCHANGED = Resized()

ROUNDING: Mapping[str, float] = {"float64": 1e-9, "complex128": 1e-9, "float16": 5e-3}
"""Largest relative difference that rounding explains, by dtype."""

ROUNDING_OTHERWISE = 1e-4
"""The same for floating-point types that are not listed."""


@dataclass(frozen=True)
class Sample:
    """A call with concrete operands.

    Attributes:
        node: the call; its integer arguments are numbers.
        operands: the tensors, by value name.
        run: calls the operator.
        constants: operands that are the same in every call, such as weights.
        shares: outputs may share memory with the operands.
    """

    node: Node
    operands: Operands
    run: Runner
    constants: frozenset[str] = frozenset()
    shares: bool = False

    @cached_property
    def rigid(self) -> frozenset[str]:
        """Integer operands, if the operator refuses others, such as offsets in another order."""
        integers = [name for name, array in self.operands.items() if array.dtype.kind in "iu"]
        for seed in range(3 if integers else 0):
            rng = np.random.default_rng(seed)
            drawn = {name: redraw(self.operands[name], rng) for name in integers}
            try:
                outputs_of(self, {**self.operands, **drawn})
            except RuleError:
                return frozenset(integers)
        return frozenset()

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """How an author of rules calls the values: by argument, and outputs by number."""
        found: dict[str, str] = {}
        for name, argument in self.node.arguments.items():
            if isinstance(argument, Value):
                found.setdefault(argument.name, f"`{name}`")
            else:
                for i, value in enumerate(values_in(argument)):
                    found.setdefault(value.name, f"`{name}[{i}]`")
        several = len(self.node.outputs) > 1
        for i, value in enumerate(self.node.outputs):
            found[value.name] = f"output {i}" if several else "the output"
        return found


def outputs_of(sample: Sample, operands: Operands, call: Resized = UNCHANGED) -> list[Array]:
    """Outputs on other operands; RuleError if it does not run on these, or writes to them."""
    given = {name: array.copy() for name, array in operands.items()}
    arguments = dict(sample.node.arguments)
    if call.op is not None:
        first = next(iter(arguments))
        arguments = {first: arguments[first]}
    arguments.update(call.arguments)
    filled = {name: _filled(argument, given) for name, argument in arguments.items()}
    with np.errstate(all="ignore"):
        try:
            results = sample.run(filled, call)
        except Exception as error:
            text = first_line(error)
            raise RuleError(f"the operator does not run: {text}", where=str(sample.node)) from error
    if len(results) != len(sample.node.outputs):
        raise RuleError("the operator gives another number of outputs", where=str(sample.node))
    if not all(same(operands[name], array).all() for name, array in given.items()):
        raise RuleError("the operator writes to its arguments", where=str(sample.node))
    return [np.array(v) if call.scale == 1.0 else np.array(v) * call.scale for v in results]


def same(a: Array, b: Array) -> Array:
    """Where two arrays of one shape have the same element; NaN is the same as NaN."""
    return np.asarray((a == b) | ((a != a) & (b != b)))


def _filled(argument: Argument, operands: Operands) -> Any:
    if isinstance(argument, Value):
        return operands[argument.name]
    if isinstance(argument, tuple):
        return [_filled(part, operands) for part in argument]
    return argument


def redrawn(sample: Sample, operands: Operands, rng: np.random.Generator) -> dict[str, Array]:
    """Other operands of the same kind: of the same range, indices still valid."""
    return {
        name: array if name in sample.rigid else redraw(array, rng)
        for name, array in operands.items()
    }


def one_sided(operands: Operands, sign: int) -> dict[str, Array]:
    """The operands with all numbers of one sign, but for those that have one sign already."""
    return {
        name: sign * np.abs(array)
        if array.dtype.kind == "f" and (array < 0).any() and (array > 0).any()
        else array
        for name, array in operands.items()
    }


def redraw(array: Array, rng: np.random.Generator) -> Array:
    """An array of the same shape whose values the operator can be expected to take."""
    if array.dtype == bool:
        return rng.random(array.shape) < 0.5
    shuffled = rng.permutation(array.ravel()).reshape(array.shape)
    if array.dtype.kind not in "fc" or not array.size:
        return shuffled
    finite = array[np.isfinite(array)]
    scale = float(np.abs(finite).mean()) if finite.size else 0.0
    drawn = shuffled + rng.normal(size=array.shape) * (scale or 1.0) / 4
    if array.dtype.kind == "f" and finite.size and finite.min() < finite.max():
        # An operator may be defined on a range only, as the logarithm is.
        inside = finite.min() + rng.random(array.shape) * (finite.max() - finite.min())
        drawn = np.where((drawn < finite.min()) | (drawn > finite.max()), inside, drawn)
    elif finite.size and array.dtype.kind == "f" and finite.min() >= 0:
        drawn = np.abs(drawn)
    return drawn.astype(array.dtype)


def with_positions(array: Array, shape: Shape, uid: int, units: Indices, values: Array) -> Array:
    """`array` with the positions of some units of a leaf taken from `values`."""
    return np.where(mask_of(array.shape, shape, uid, units), values, array).astype(array.dtype)


def mask_of(sizes: tuple[int, ...], shape: Shape, uid: int, units: Indices) -> Array:
    """Which elements of a tensor belong to some units of a leaf, in any of its dimensions."""
    mask = np.zeros(sizes, dtype=bool)
    for dim, axis in enumerate(shape):
        if uid in axis.uids:
            rows = unit_positions(axis, uid)[units].ravel()
            np.moveaxis(mask, dim, 0)[rows] = True
    return mask


def gap(a: Array, b: Array) -> float:
    """Largest difference relative to the largest magnitude; inf where shapes or NaNs differ."""
    if a.shape != b.shape or a.dtype.kind != b.dtype.kind:
        return float("inf")
    if not a.size:
        return 0.0
    if a.dtype.kind not in "fc":
        return 0.0 if bool((a == b).all()) else float("inf")
    with np.errstate(all="ignore"):
        difference = np.where(same(a, b), 0, np.abs(a - b))
    if not np.isfinite(difference).all():
        return float("inf")
    magnitude = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    return float(difference.max()) / (magnitude or 1.0)


def equal(a: Array, b: Array) -> bool:
    """Whether two arrays differ by rounding at most."""
    return gap(a, b) <= ROUNDING.get(str(a.dtype), ROUNDING_OTHERWISE)


def concrete(node: Node) -> Node:
    """The node with example sizes for symbolic ones; RuleError if a size depends on data."""

    def settled(argument: Argument) -> Argument:
        if isinstance(argument, tuple):
            return tuple(settled(part) for part in argument)
        if isinstance(argument, Value) and argument.dtype == "int":
            if argument.hint is None:
                raise RuleError(f"{argument} depends on data", where=str(node))
            return argument.hint
        return argument

    return replace(node, arguments={name: settled(a) for name, a in node.arguments.items()})
