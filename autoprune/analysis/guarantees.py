"""What cutting a leaf does to the numbers, by propagating zeros through the graph.

The units of a leaf are removed in thought by setting their parameter slices to zero. Operators
then say whether the removed positions of what they compute are zero, constant or anything, and
whether summing over them is covered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autoprune.analysis.dependence import constants, needed
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.graph import Node, Parameter, Value
from autoprune.ir.group import Group, Guarantee
from autoprune.ir.positions import Kept, kept_masks
from autoprune.ir.reason import NO_REASON, Reason
from autoprune.ops.rule import writes_in_place
from autoprune.ops.views import Call, State, Zeroing

Spared = Mapping[str, frozenset[int]]
"""By parameter, the leaves whose removed positions are not set to zero in it."""

_NONE = frozenset[int]()


class Verdict(NamedTuple):
    """The weakest guarantee met on the way, and where."""

    guarantee: Guarantee
    reason: Reason = NO_REASON
    spared: tuple[str, ...] = ()
    """Parameters in which the units need not be zero."""
    folds: tuple[str, ...] = ()
    """Calls whose bias takes up a constant, if the guarantee is `folded`."""


_BEST = Verdict(Guarantee.ZERO_INVARIANT)


def guarantees(typed: TypedGraph, uids: Iterable[int]) -> dict[int, Verdict]:
    """The guarantee of each of the given leaves, when its units are removed.

    Parameters that activations are divided by, such as the gains of a norm that is folded into
    the weights before it, stay what they are if the units are zero without them.
    """
    propagation = _Propagation(typed, frozenset(uids))
    verdicts = propagation.run()
    divisors = {
        uid: _trained(typed, uid, removal.divisors)
        for uid, removal in propagation.removals.items()
        if removal.divisors and not removal.verdict.guarantee.exact
    }
    if divisors:
        again = _Propagation(typed, frozenset(divisors), spared=divisors).run()
        for uid, verdict in again.items():
            if verdict.guarantee.exact:
                spared = (*verdict.spared, *sorted(divisors[uid]))
                verdicts[uid] = verdict._replace(spared=spared)
    return verdicts


def _trained(typed: TypedGraph, uid: int, values: Iterable[str]) -> frozenset[str]:
    """The trained parameters with a leaf that some values are computed from."""
    producer = {v.name: node for node in typed.graph.nodes for v in node.outputs}
    found, pending = set[str](), list(values)
    while pending:
        name = pending.pop()
        if name in found or uid not in typed.uids[name]:
            continue
        found.add(name)
        if name in producer:
            pending.extend(v.name for v in producer[name].tensors)
    parameters = typed.graph.parameter_of
    return frozenset(n for n in found if n in parameters and parameters[n].kind == "parameter")


def guarantee_with(typed: TypedGraph, uid: int, zero: frozenset[str]) -> Guarantee:
    """The guarantee of removing units that are zero in `zero` alone, exact if nothing changes.

    Those are names of parameters, and of values computed from these.
    """
    return _Propagation(typed, frozenset((uid,)), zero).run()[uid].guarantee


def spared_parameters(typed: TypedGraph, cut: Collection[Group]) -> Spared:
    """Parameters in which removed units are not set to zero to compare with.

    Weights that read the constants of folded units, and directions of weights of norm zero.
    """
    spared: dict[str, frozenset[int]] = {}
    for group in cut:
        for name in group.spared:
            spared[name] = spared.get(name, _NONE) | {group.leaf.uid}
    for call, uids in folding_calls(typed, cut):
        weight = call.tensor("weight").name
        spared[weight] = spared.get(weight, _NONE) | uids
    return spared


def trained_masks(
    typed: TypedGraph, kept: Kept, spared: Spared
) -> Iterator[tuple[Parameter, tuple[NDArray[np.bool_], ...]]]:
    """Trained parameters of which positions do not stay, with masks that tell which do."""
    for parameter in typed.graph.parameters:
        if parameter.kind == "parameter":
            name = parameter.value.name
            whole = spared.get(name, frozenset())
            rest = {uid: units for uid, units in kept.items() if uid not in whole}
            if masks := tuple(kept_masks(typed.types[name], rest)):
                yield parameter, masks


def folding_calls(typed: TypedGraph, cut: Collection[Group]) -> list[tuple[Call, frozenset[int]]]:
    """The calls that read constants, with the leaves of the units that leave them."""
    found: dict[str, frozenset[int]] = {}
    for group in cut:
        for name in group.folds:
            found[name] = found.get(name, _NONE) | {group.leaf.uid}
    nodes = (node for node in typed.graph.nodes if node.name in found)
    return [(Call(node, typed.types), found[node.name]) for node in nodes]


@dataclass(slots=True)
class _Removal:
    """The units of one leaf, removed in thought: what is known so far."""

    node: Node | None = None
    """The call that is looked at."""
    verdict: Verdict = _BEST
    states: dict[str, State] = field(default_factory=dict)
    """State of each value that carries the leaf, by value name."""
    divisors: set[str] = field(default_factory=set)
    """Zeros computed of parameters alone that make activations infinite or not a number."""

    def report(self, guarantee: Guarantee, reason: str) -> None:
        """The call loses a guarantee."""
        assert self.node is not None
        known = self.verdict
        if guarantee > known.guarantee:
            known = Verdict(guarantee, Reason(reason, self.node), known.spared)
        if guarantee is known.guarantee is Guarantee.FOLDED:
            known = known._replace(folds=(*known.folds, self.node.name))
        self.verdict = known

    def spare(self, value: Value) -> None:
        """The units need not be zero in a parameter."""
        self.verdict = self.verdict._replace(spared=(*self.verdict.spared, value.name))


class _Propagation:
    """Zeros on their way through the graph; of trained parameters all are, or those in `zero`."""

    def __init__(
        self,
        typed: TypedGraph,
        uids: frozenset[int],
        zero: frozenset[str] | None = None,
        spared: Mapping[int, frozenset[str]] = MappingProxyType({}),
    ) -> None:
        self.typed = typed
        self.zero = zero
        self.spared = spared
        self.removals = {uid: _Removal() for uid in uids}
        self.needed = needed(typed.graph)
        self.constants = constants(typed.graph)
        self.owned = _owned(typed)
        self.aliases: dict[str, set[str]] = {}

    def run(self) -> dict[int, Verdict]:
        removals, carried = self.removals, self.typed.uids
        for parameter in self.typed.graph.parameters:
            name = parameter.value.name
            is_zero = parameter.kind == "parameter" if self.zero is None else name in self.zero
            state = State.ZERO if is_zero else State.CONSTANT
            for uid in carried[name] & removals.keys():
                is_spared = name in self.spared.get(uid, ())
                removals[uid].states[name] = State.CONSTANT if is_spared else state
        for node in self.typed.graph.nodes:
            self._visit(node)
        return {uid: removal.verdict for uid, removal in self.removals.items()}

    def _visit(self, node: Node) -> None:
        carried, operator = self.typed.uids, self.typed.operator_of(node)
        in_place = writes_in_place(node.op)
        if operator.aliases and node.outputs:
            source = node.tensors[0].name
            family = self.aliases.setdefault(source, {source})
            for value in node.outputs:
                family.add(value.name)
                self.aliases[value.name] = family
        touched = _NONE.union(*[carried[v.name] for v in (*node.inputs, *node.outputs)])
        for uid in touched & self.removals.keys():
            removal = self.removals[uid]
            removal.node = node
            state = operator.zero(
                Zeroing(
                    node, self.typed.types, uid, removal.states, self.constants,
                    removal.report if node.name in self.needed else _unheard,
                    removal.spare, self.owned,
                )
            )  # fmt: skip
            if state is State.UNDEFINED:
                self._note_divisors(node, removal)
            if state is State.UNIFORM and not (operator.uniform or operator.aliases):
                state = State.CONSTANT
            for value in node.outputs:
                if uid in carried[value.name]:
                    is_index = len(node.outputs) > 1 and value.dtype.startswith("int")
                    removal.states[value.name] = State.ANY if is_index else state
                    if self.zero is not None and value.name in self.zero:
                        removal.states[value.name] = State.ZERO
            if in_place:
                self._write(node, uid, state)

    def _note_divisors(self, node: Node, removal: _Removal) -> None:
        """What may be the reason, if it is met by activations here."""
        carried = [v.name for v in node.tensors if v.name in removal.states]
        if not self.constants.issuperset(carried):
            zeros = (n for n in carried if removal.states[n] is State.ZERO)
            removal.divisors.update(self.constants.intersection(zeros))

    def _write(self, node: Node, uid: int, state: State) -> None:
        """An in-place operator changes its first argument and everything that shares memory."""
        states = self.removals[uid].states
        target = node.inputs[0].name
        family = self.aliases.get(target, {target})
        for name in family:
            if uid in self.typed.uids[name]:
                old = states.get(name, state)
                states[name] = state if len(family) == 1 else max(old, state)
        for value in node.outputs:
            family.add(value.name)
            self.aliases[value.name] = family
        self.aliases[target] = family


def _unheard(guarantee: Guarantee, reason: str) -> None:
    """What a removal does to outputs that do not matter."""


def _owned(typed: TypedGraph) -> frozenset[str]:
    """Trained parameters that one call reads, once."""
    uses = Counter([v.name for node in typed.graph.nodes for v in node.inputs])
    uses.update(v.name for v in typed.graph.outputs)
    trained = (p.value.name for p in typed.graph.parameters if p.kind == "parameter")
    return frozenset(name for name in trained if uses[name] == 1)
