"""Where the arguments of an operator stand in an ONNX node: inputs by position, attributes by name.

A rule is written once, against the argument names of the operator families. This table says where
each of them stands in an ONNX node, whatever the opset: an argument that moved from an attribute
to an input is listed as both.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from autoprune.ir.graph import Argument

Arguments = dict[str, Argument]


@dataclass(frozen=True)
class Signature:
    """Where the arguments of an operator stand.

    Attributes:
        inputs: names of the inputs in order. `name` is a tensor; `name!` are numbers that have to
            be known before the graph runs; `name?` is a number if it is known, else a tensor;
            `-` is of no concern to any rule. A lone `*tensors` takes all inputs.
        attributes: by attribute, the argument's name and default.
    """

    inputs: tuple[str, ...]
    attributes: Mapping[str, tuple[str, Argument]]


def signature_of(text: str) -> Signature:
    """A signature as it is written down, such as `input weight | axis:dim=-1 epsilon:eps=1e-5`.

    The inputs stand before the bar. After it stand the attributes, each with the argument's name
    behind a colon if that is another, and with its default if it has one.
    """
    inputs, _, attributes = text.partition("|")
    found: dict[str, tuple[str, Argument]] = {}
    for entry in attributes.split():
        names, _, default = entry.partition("=")
        attribute, _, argument = names.partition(":")
        found[attribute] = argument or attribute, literal_eval(default or "None")
    return Signature(tuple(inputs.split()), found)


@dataclass(frozen=True)
class Context:
    """What else is known of a node while its arguments are normalised.

    Attributes:
        op_type: the ONNX operator.
        opset: version of the standard operators.
        shapes: shapes of the inputs by position; None for absent ones.
        known: values of the inputs that are known before the graph runs, by position.
        attributes: all attributes of the node.
        outputs: shapes of the outputs, in order.
        positions: which outputs of the operator these are.
    """

    op_type: str
    opset: int
    shapes: Sequence[tuple[int, ...] | None]
    known: Mapping[int, NDArray[Any]]
    attributes: Mapping[str, Any]
    outputs: Sequence[tuple[int, ...]]
    positions: tuple[int, ...]

    @property
    def rank(self) -> int:
        """Number of dimensions of the first input."""
        return len(self.shapes[0] or ())


Normalize = Callable[[Arguments, Context], Arguments | str]
"""Completes the arguments, or says why no rule covers such a call."""

SIGNATURES: dict[str, Signature] = {}
NORMALIZE: dict[str, Normalize] = {}


def bind(names: str, signature: str, normalize: Normalize | None = None) -> None:
    """Enter a signature for space-separated operators, called as in rules but for `onnx.`."""
    for name in names.split():
        SIGNATURES[name] = signature_of(signature)
        if normalize is not None:
            NORMALIZE[name] = normalize


def with_outputs(arguments: Arguments, context: Context) -> Arguments:
    """Say which outputs of the operator are there."""
    return {**arguments, "outputs": context.positions}
