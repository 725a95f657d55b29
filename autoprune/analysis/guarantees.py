"""What cutting a leaf does to the numbers, by propagating zeros through the graph.

The units of a leaf are removed in thought by setting their parameter slices to zero. Operators
then say whether the removed positions of what they compute are zero, constant or anything, and
whether summing over them is covered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from autoprune.analysis.typing import TypedGraph
from autoprune.ir.graph import Node, Value
from autoprune.ir.group import Guarantee
from autoprune.ops.creation import draws
from autoprune.ops.rule import State, Zeroing, writes_in_place


@dataclass(frozen=True, slots=True)
class Verdict:
    """The weakest guarantee met on the way, and where."""

    guarantee: Guarantee
    reason: str
    spared: tuple[str, ...] = ()
    """Parameters in which the units need not be zero."""
    folds: tuple[str, ...] = ()
    """Calls whose bias takes up a constant, if the guarantee is `folded`."""


def guarantees(typed: TypedGraph, uids: Iterable[int]) -> dict[int, Verdict]:
    """The guarantee of each of the given leaves, when its units are removed."""
    return _Propagation(typed, frozenset(uids)).run()


class _Propagation:
    def __init__(self, typed: TypedGraph, uids: frozenset[int]) -> None:
        self.typed = typed
        self.states: dict[tuple[str, int], State] = {}
        self.verdicts = dict.fromkeys(uids, Verdict(Guarantee.ZERO_INVARIANT, ""))
        self.carried: dict[str, frozenset[int]] = {
            name: frozenset[int]().union(*(axis.uids for axis in shape)) & uids
            for name, shape in typed.types.items()
        }
        self.constants = _constants(typed)
        self.owned = _owned(typed)
        self.aliases: dict[str, set[str]] = {}

    def run(self) -> dict[int, Verdict]:
        for parameter in self.typed.graph.parameters:
            state = State.ZERO if parameter.kind == "parameter" else State.CONSTANT
            for uid in self.carried[parameter.value.name]:
                self.states[parameter.value.name, uid] = state
        for node in self.typed.graph.nodes:
            self._visit(node)
        return self.verdicts

    def _visit(self, node: Node) -> None:
        operator = self.typed.operator_of(node)
        touched = frozenset[int]().union(
            *(self.carried[v.name] for v in (*node.inputs, *node.outputs))
        )
        if operator.aliases and node.outputs:
            source = next(v for v in node.inputs if v.dtype != "int").name
            family = self.aliases.setdefault(source, {source})
            for value in node.outputs:
                family.add(value.name)
                self.aliases[value.name] = family
        for uid in touched:
            state = operator.zero(self._view(node, uid))
            if state is State.UNIFORM and not (operator.uniform or operator.aliases):
                state = State.CONSTANT
            for value in node.outputs:
                if uid in self.carried[value.name]:
                    is_index = len(node.outputs) > 1 and value.dtype.startswith("int")
                    self.states[value.name, uid] = State.ANY if is_index else state
            if writes_in_place(node.op):
                self._write(node, uid, state)

    def _write(self, node: Node, uid: int, state: State) -> None:
        """An in-place operator changes its first argument and everything that shares memory."""
        target = node.inputs[0].name
        family = self.aliases.get(target, {target})
        for name in family:
            if uid in self.carried[name]:
                old = self.states.get((name, uid), state)
                self.states[name, uid] = state if len(family) == 1 else max(old, state)
        for value in node.outputs:
            family.add(value.name)
            self.aliases[value.name] = family
        self.aliases[target] = family

    def _view(self, node: Node, uid: int) -> Zeroing:
        def report(guarantee: Guarantee, reason: str) -> None:
            known = self.verdicts[uid]
            if guarantee > known.guarantee:
                known = Verdict(guarantee, f"{reason} ({node.label})", known.spared)
            if guarantee is known.guarantee is Guarantee.FOLDED:
                known = replace(known, folds=(*known.folds, node.name))
            self.verdicts[uid] = known

        def spare(value: Value) -> None:
            known = self.verdicts[uid]
            self.verdicts[uid] = replace(known, spared=(*known.spared, value.name))

        return Zeroing(
            node, self.typed.types, uid, self.states, self.constants, report, spare, self.owned
        )


def _owned(typed: TypedGraph) -> frozenset[str]:
    """Trained parameters that one call reads, once."""
    uses = Counter(v.name for node in typed.graph.nodes for v in node.inputs)
    uses.update(v.name for v in typed.graph.outputs)
    trained = (p.value.name for p in typed.graph.parameters if p.kind == "parameter")
    return frozenset(name for name in trained if uses[name] == 1)


def _constants(typed: TypedGraph) -> frozenset[str]:
    """Values that depend on parameters alone, not on the graph's inputs or on chance."""
    constants = {p.value.name for p in typed.graph.parameters}
    for node in typed.graph.nodes:
        if draws(node.op):
            continue
        if all(v.name in constants or v.dtype == "int" for v in node.inputs):
            constants.update(v.name for v in node.outputs)
    return frozenset(constants)
