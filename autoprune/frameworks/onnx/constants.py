"""Numbers an ONNX graph computes from sizes and constants alone, such as the target of a reshape.

They are known before the graph runs, and have to be known again at other sizes. So the nodes that
compute them are taken out of the network and kept as a small graph of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from autoprune.frameworks.onnx.attributes import attributes_of
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.sessions import run
from autoprune.frameworks.onnx.walk import subgraphs

LARGEST = 2**16
"""Elements of the largest tensor that counts as numbers rather than data."""

SMALL = 64
"""Elements of the largest float constant that may be combined with sizes: scales of a resize."""

_INTEGERS = ("int64", "int32", "bool")
_CHANCE = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli",
           "Multinomial"}  # fmt: skip
_FILLING = {"ConstantOfShape", "Expand", "Tile", "EyeLike", "Pad"}
"""These make tensors of any size; as data they may be cut like other tensors."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a value was on the example inputs.

    Attributes:
        shape: its sizes; `()` for what is no tensor.
        dtype: its dtype, or `sequence` for what is no tensor.
        array: the value, if it is small enough to be a number.
    """

    shape: tuple[int, ...]
    dtype: str
    array: NDArray[Any] | None


@dataclass(frozen=True)
class Numbers:
    """The values that are known before the graph runs.

    Attributes:
        model: the model.
        seen: what every value was on the example inputs.
        computed: by value name, the position of the node that computes it.
        sized: those that depend on the size of some tensor.
    """

    model: onnx.ModelProto
    seen: Mapping[str, Seen]
    computed: Mapping[str, int]
    sized: frozenset[str]

    def nodes_behind(self, names: Iterable[str]) -> list[onnx.NodeProto]:
        """The nodes that compute some numbers from sizes of tensors, in their order."""
        found: dict[int, onnx.NodeProto] = {}
        waiting = [name for name in names if name in self.sized]
        while waiting:
            position = self.computed[waiting.pop()]
            if position not in found:
                found[position] = node = self.model.graph.node[position]
                if not measures(node):
                    waiting.extend(name for name in node.input if name in self.sized)
        return [found[position] for position in sorted(found)]

    def at(self, names: Iterable[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
        """Compute some of the numbers again, where tensors have other sizes.

        Args:
            names: the values wanted.
            shapes: new sizes by value name; values that are not listed keep theirs.
        """
        wanted = [n for n in dict.fromkeys(names) if n in self.sized]
        if not wanted:
            return {}
        nodes: list[onnx.NodeProto] = []
        constants: dict[str, NDArray[Any] | None] = {}
        for node in self.nodes_behind(wanted):
            if measures(node):
                shape = shapes.get(node.input[0], self.seen[node.input[0]].shape)
                constants[node.output[0]] = _sizes(node, shape)
            else:
                nodes.append(node)
                given = [name for name in node.input if name and name not in self.sized]
                constants.update((name, self.seen[name].array) for name in given)
        outputs = [onnx.ValueInfoProto(name=name) for name in wanted]
        owned = [numpy_helper.from_array(a, n) for n, a in constants.items() if a is not None]
        graph = helper.make_graph(nodes, "numbers", [], outputs, owned)
        model = helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )
        results = run(session_for(model, 1, optimize=False), None, {})
        return dict(zip(wanted, results, strict=True))


def measures(node: onnx.NodeProto) -> bool:
    """Whether a node gives the sizes of its input."""
    return node.op_type in ("Shape", "Size") and node.domain in ("", "ai.onnx")


def _sizes(node: onnx.NodeProto, shape: tuple[int, ...]) -> NDArray[Any]:
    """What Shape and Size give for a tensor of this shape."""
    if node.op_type == "Size":
        return np.array(prod(shape), dtype=np.int64)
    bounds = attributes_of(node)
    return np.array(shape[bounds.get("start", 0) : bounds.get("end")], dtype=np.int64)


def find_numbers(
    model: onnx.ModelProto, seen: Mapping[str, Seen], constants: Iterable[str]
) -> Numbers:
    """Find the values that only depend on constants and on the sizes of tensors.

    Args:
        model: the model.
        seen: what every value was on the example inputs.
        constants: names of initializers and outputs of Constant nodes.
    """
    known, sized = set(constants), set[str]()
    computed: dict[str, int] = {}
    for position, node in enumerate(model.graph.node):
        outputs = [name for name in node.output if name]
        if measures(node):
            sized.update(outputs)
        elif not _is_number(node, known, sized, seen):
            continue
        elif any(name in sized for name in node.input):
            sized.update(outputs)
        known.update(outputs)
        computed.update(dict.fromkeys(outputs, position))
    return Numbers(model, seen, computed, frozenset(sized))


def _is_number(
    node: onnx.NodeProto, known: set[str], sized: set[str], seen: Mapping[str, Seen]
) -> bool:
    """Whether what a node gives counts as numbers: known from numbers, and few or integers."""
    inputs = [name for name in node.input if name]
    outputs = [seen[name] for name in node.output if name]
    if not inputs or not known.issuperset(inputs) or not _can_run_alone(node):
        return False
    if any(value.array is None or prod(value.shape) > LARGEST for value in outputs):
        return False
    integers = all(value.dtype in _INTEGERS for value in outputs)
    if not integers and node.op_type in _FILLING:
        return False
    if not sized.isdisjoint(inputs):
        return all(_integers_or_few(seen[n], SMALL) for n in inputs if n not in sized)
    if integers:
        return all(_integers_or_few(seen[n], 1) for n in inputs)
    return all(prod(value.shape) <= 1 for value in (*outputs, *(seen[n] for n in inputs)))


def _can_run_alone(node: onnx.NodeProto) -> bool:
    """Whether a node gives the same again when it runs outside of its graph."""
    plain = node.domain in ("", "ai.onnx") and node.op_type not in _CHANCE
    return plain and not any(True for a in node.attribute for _ in subgraphs(a))


def _integers_or_few(value: Seen, at_most: int) -> bool:
    """Whether a value is of integers, or of no more floats than so many."""
    return value.dtype in _INTEGERS or prod(value.shape) <= at_most
