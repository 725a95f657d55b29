"""Numbers in an ONNX model that have to change when it is cut: targets of reshapes and the like.

Every use of a number outside the nodes that compute numbers is visited. Where those nodes, run at
the new sizes, already give what is wanted, nothing is done. Otherwise a constant is replaced, and
what depends on sizes that the model leaves open is multiplied by the ratio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from autoprune.analysis.resizing import sizes_of
from autoprune.analysis.typing import TypedGraph
from autoprune.errors import GraphError
from autoprune.frameworks.onnx.tensors import Additions, read_tensor, readers_of, write_tensor
from autoprune.frameworks.onnx.trace import TracedOnnx
from autoprune.ir import axes as ax
from autoprune.ir.graph import Argument
from autoprune.ir.positions import Kept, cut_array
from autoprune.ops.views import Resized

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Use:
    """One input of one node of the network that is a number, and what it has to be."""

    node: int
    input: int
    name: str
    wanted: Array


@dataclass
class NumberRewriter:
    """Rewrites the numbers of `model`, a copy of the traced one whose tensors are cut.

    Attributes:
        model: the copy.
        traced: the original.
        typed: its axis types.
        kept: kept units by leaf.
        resized: what changes in the calls, by node name.
        additions: to the copy.
        before: new nodes by the position of the node that they come before.
    """

    model: onnx.ModelProto
    traced: TracedOnnx
    typed: TypedGraph
    kept: Kept
    resized: Mapping[str, Resized]
    additions: Additions
    before: dict[int, list[onnx.NodeProto]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._made: dict[tuple[str, bytes], str] = {}
        sizes = sizes_of(self.kept)
        self._shapes = {
            name: tuple(ax.size(axis, sizes) for axis in axes)
            for name, axes in self.typed.types.items()
        }

    def rewrite(self) -> None:
        """Make every use of a number what the cut network needs."""
        numbers, graph = self.traced.numbers, self.traced.model.graph
        by_name: dict[str, list[_Use]] = {}
        for use in self._uses():
            by_name.setdefault(use.name, []).append(use)
        now = numbers.at(by_name, self._shapes)
        readers = Counter(readers_of(graph))
        for name, uses in by_name.items():
            current = now.get(name, numbers.seen[name].array)
            wrong = [u for u in uses if current is None or not np.array_equal(u.wanted, current)]
            if not wrong:
                continue
            alike = all(np.array_equal(wrong[0].wanted, u.wanted) for u in wrong)
            owner = self.traced.owners.get(name)
            if owner is not None and alike and len(wrong) == readers[name]:
                write_tensor(self.model, owner, wrong[0].wanted)
                continue
            for use in wrong:
                self._redirect(use, current)

    def _uses(self) -> Iterator[_Use]:
        """Every use of a number by the network, with what it has to be after the cut."""
        traced = self.traced
        names = {position: name for name, position in traced.positions.items()}
        filled = {o.position: name for name, o in traced.owners.items() if o.kind == "filled"}
        for position, node in enumerate(traced.model.graph.node):
            if position in names:
                yield from self._uses_by(position, node, names[position])
            elif position in filled:
                name, old = filled[position], read_tensor(traced, node.input[0])
                shape = self._shapes.get(name, traced.numbers.seen[name].shape)
                yield _Use(position, 0, node.input[0], np.array(shape, old.dtype))

    def _uses_by(self, position: int, node: onnx.NodeProto, name: str) -> Iterator[_Use]:
        traced = self.traced
        changed = self.resized.get(name, Resized()).arguments
        argument_at = {slot: argument for argument, slot in traced.slots[name].items()}
        for i, given in enumerate(node.input):
            computed = given in traced.numbers.computed
            if not computed and given not in traced.owners:
                continue
            argument = argument_at.get(i, "")
            if argument in changed:
                yield _Use(position, i, given, _like(read_tensor(traced, given), changed[argument]))
            elif computed:
                old, axes = read_tensor(traced, given), self.typed.types.get(given, ())
                yield _Use(position, i, given, cut_array(old, axes, self.kept))

    def _redirect(self, use: _Use, current: Array | None) -> None:
        """Let one input read the wanted value."""
        key = (use.name, use.wanted.tobytes())
        if key not in self._made:
            if use.name in self.traced.numbers.sized and self.traced.dynamic:
                assert current is not None
                self._made[key] = self._scaled(use, current)
            else:
                self._made[key] = self.additions.constant(use.name, use.wanted)
        self.model.graph.node[use.node].input[use.input] = self._made[key]

    def _scaled(self, use: _Use, current: Array) -> str:
        """The number times the ratio of what it is to be and what it is."""
        wanted = use.wanted
        if wanted.shape != current.shape or ((current == 0) & (wanted != 0)).any():
            raise GraphError(
                "a number that depends on open sizes would change by more than a factor",
                where=f"value {use.name}",
                hint="fix the sizes of the model's inputs, or ignore this layer",
            )
        # Entries that stay, among them zero and -1 for what follows from the rest, get 1 / 1.
        top, bottom = (np.where(wanted == current, 1, array) for array in (wanted, current))
        if wanted.dtype.kind == "f":
            steps = [("Mul", (top / bottom).astype(wanted.dtype))]
        else:
            common = np.gcd(top, bottom)
            steps = [("Mul", top // common), ("Div", bottom // common)]
        name = use.name
        graph = self.traced.model.graph
        # Once for all readers, so before the first of them.
        first = min(i for i, node in enumerate(graph.node) if use.name in node.input)
        for op, factor in steps:
            if (factor == 1).all():
                continue
            factors = [name, self.additions.constant(use.name, factor)]
            node = self.additions.node(op, factors, use.name)
            self.before.setdefault(first, []).append(node)
            name = node.name
        return name


def _like(old: Array, argument: Argument) -> Array:
    """An argument as an array of the same dtype, and of the same rank where it fits."""
    array = np.array(argument, dtype=old.dtype)
    return array.reshape(old.shape) if array.size == old.size else array.reshape(-1)
