"""Which leaves may be cut at different units under each unit of another leaf.

The head width of `12x64` may keep other units in every head, if nothing compares the units of
one head with those of another. Cutting leaf `w` per unit of leaf `h` is the same as first
reordering the units of `w` anew under every unit of `h`, and then cutting the same ones
everywhere. So the question is whether the network computes the same after such a reordering.

It does if every call passes the reordering on. A call whose rule declares what it `normalizes`
computes each output from the inputs at the same indices, sums over axes that its output lacks, and
may do anything along axes it pins. Write its axes with a letter for every index, as in einsum;
reordering `w` by `h` is a change of the summation and output variables, and it is consistent if

* every operand and output that has the letter of `w` has one letter of `h` too: in the same product
  before `w`, or alone in another dimension (a sum over `h` that keeps `w` has an output without
  `h`; a table `[l, w]` or a bias `[w]` that all heads share has no `h` at all);
* where two of them have the same letter for `w`, they have the same letter for `h` (a product of
  `[h, w]` with `[g, w]` over `w` compares heads, although both `h` and `g` may be the heads);
* the call does not pin `h` itself (softmax, sorting, a sliding window or a look-up over it);
* no statistic over `h` is kept apart for each `w` (a layer normalization over `h` alone).

The letters are found by asking the rule again, with every occurrence of `h` and `w` in every
operand made a leaf of its own: those that the equations of the call make the same have the same
letter. Views, matrix products, convolutions, attention and elementwise calls need nothing more.
Everything else, and every operator whose rule does not say what it normalizes, keeps a leaf from
being cut this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from autoprune.analysis.typing import TypedGraph
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axes, Axis, Leaf, Prod
from autoprune.ir.graph import Argument, Node, Value
from autoprune.ir.reason import Reason
from autoprune.ops.views import Shape, Typing


def outer_leaves(typed: TypedGraph, uids: Iterable[int]) -> dict[int, Leaf]:
    """By leaf, the leaf per whose units its units may be chosen; leaves without one are left out.

    Of several outer leaves the innermost is taken. Of two that always occur along with each other,
    such as letters that a product of two parameters sums over, the one that came first is the outer
    one. The leaves asked about are not pinned.
    """
    candidates = _candidates(typed, frozenset(uids))
    others = frozenset(leaf.uid for outers in candidates.values() for leaf in outers)
    along = candidates | _candidates(typed, others - candidates.keys())
    touching: dict[int, list[Node]] = {uid: [] for uid in candidates}
    for node in typed.graph.nodes if candidates else ():
        around = [typed.uids[v.name] for v in (*node.inputs, *node.outputs)]
        for uid in frozenset[int]().union(*around) & candidates.keys():
            touching[uid].append(node)
    found: dict[int, Leaf] = {}
    for uid, outers in candidates.items():
        for outer in outers:
            mutual = any(leaf.uid == uid for leaf in along.get(outer.uid, ()))
            if (mutual and uid < outer.uid) or _leads_to(found, outer.uid, uid):
                continue
            if all(_passes_on(typed, node, uid, outer.uid) for node in touching[uid]):
                found[uid] = outer
                break
    return found


def _leads_to(outers: Mapping[int, Leaf], uid: int, end: int) -> bool:
    """Whether one comes from a leaf to another by going from leaves to their outer ones."""
    while uid in outers and uid != end:
        uid = outers[uid].uid
    return uid == end


def _candidates(typed: TypedGraph, uids: frozenset[int]) -> dict[int, list[Leaf]]:
    """By leaf, those that occur along with it in every value, the innermost first."""
    vectors = (shape[0] for shape in typed.types.values() if len(shape) == 1)
    asked = uids - {axis.uid for axis in vectors if isinstance(axis, Leaf)}
    found: dict[int, list[Leaf]] = {}
    # Parameters first: few leaves have an outer one in all of them.
    for name in dict.fromkeys((*(p.value.name for p in typed.graph.parameters), *typed.types)):
        shape = typed.types[name]
        for uid in typed.uids[name] & asked:
            if found.get(uid) != []:
                here = _along_with(shape, uid)
                found[uid] = [leaf for leaf in found.get(uid, here) if leaf in here]
    return {uid: outers for uid, outers in found.items() if outers}


def _along_with(shape: Shape, uid: int) -> list[Leaf]:
    """Leaves of which each position of leaf `uid` has exactly one unit, the innermost first."""
    common: list[Leaf] | None = None
    for dim, axis in enumerate(shape):
        for path in _paths(axis, uid):
            before = [leaf for leaf in reversed(path) if not _squared(axis, leaf)]
            here = before + [leaf for leaf in _alone(shape, dim) if leaf not in path]
            common = [leaf for leaf in common if leaf in here] if common is not None else here
            if any(leaf.uid == uid for leaf in path):
                return []
    return common or []


def _squared(axis: Axis, leaf: Leaf) -> bool:
    """Whether the leaf occurs in two factors of one product."""
    return any(leaf in path for path in _paths(axis, leaf.uid))


def _paths(axis: Axis, uid: int, before: tuple[Leaf, ...] = ()) -> Iterator[tuple[Leaf, ...]]:
    """The leaves before each occurrence of leaf `uid` in the products around it."""
    if isinstance(axis, Leaf):
        if axis.uid == uid:
            yield before
    elif isinstance(axis, Prod):
        for factor in axis.factors:
            yield from _paths(factor, uid, before)
            before = (*before, *ax.leaves(factor))
    else:
        for term in axis.terms:
            yield from _paths(term, uid, before)


def _alone(shape: Shape, dim: int) -> Iterator[Leaf]:
    """Leaves that one dimension other than `dim` has once, at all its positions, and no other."""
    everywhere = [leaf for axis in shape for leaf in ax.leaves(axis)]
    for other in range(len(shape) - 1, -1, -1):
        axis = shape[other]
        if other != dim and not isinstance(axis, ax.Sum):
            for factor in reversed(axis.factors if isinstance(axis, Prod) else (axis,)):
                if isinstance(factor, Leaf) and everywhere.count(factor) == 1:
                    yield factor


@dataclass
class _Copies:
    """Types of the values around one call, where each occurrence of two leaves is a leaf anew.

    Attributes:
        inner: the leaf that is to be reordered.
        outer: the leaf per whose units it is.
        pairs: every copy of the inner leaf, with the copy of the outer leaf that goes with it.
    """

    inner: int
    outer: int
    pins: Mapping[int, Reason]
    axes: Axes = field(default_factory=Axes)
    pairs: list[tuple[Axis, Axis]] = field(default_factory=list)
    shared: dict[int, Axis] = field(default_factory=dict)

    def shape(self, shape: Shape) -> Shape:
        """A copy of the type of a value."""
        alone: list[Axis] = []
        unpaired: list[Axis] = []
        result = tuple(self._axis(axis, None, alone, unpaired) for axis in shape)
        self.pairs.extend((inner, alone[0]) for inner in unpaired)
        return result

    def _axis(
        self, axis: Axis, outer: Axis | None, outers: list[Axis], unpaired: list[Axis]
    ) -> Axis:
        if isinstance(axis, ax.Sum):
            return ax.concat(*(self._axis(term, outer, outers, unpaired) for term in axis.terms))
        if isinstance(axis, Prod):
            factors = []
            for factor in axis.factors:
                factors.append(self._axis(factor, outer, outers, unpaired))
                if isinstance(factor, Leaf) and factor.uid == self.outer:
                    outer = factors[-1]
            return ax.prod(*factors)
        if axis.uid in self.shared:
            return self.shared[axis.uid]
        copy = self.axes.leaf(axis.size)
        if axis.uid not in (self.inner, self.outer):
            self.shared[axis.uid] = copy
            if axis.uid in self.pins:
                self.axes.pin(copy, self.pins[axis.uid].text)
        elif axis.uid == self.outer:
            outers.append(copy)
        elif outer is None:
            unpaired.append(copy)
        else:
            self.pairs.append((copy, outer))
        return copy


def _passes_on(typed: TypedGraph, node: Node, inner: int, outer: int) -> bool:
    """Whether reordering the inner leaf per unit of the outer one goes through a call."""
    operator = typed.operator_of(node)
    if operator.normalizes is None:
        return False
    copies = _Copies(inner, outer, typed.pins)
    types: dict[str, Shape] = {}

    def operand(argument: Argument) -> Argument:
        """A value that is an operand twice, as in `x @ x.T`, has other letters each time."""
        if isinstance(argument, tuple):
            return tuple(map(operand, argument))
        if not isinstance(argument, Value):
            return argument
        copy = replace(argument, name=f"{argument.name}:{len(types)}")
        types[copy.name] = copies.shape(typed.types[argument.name])
        return copy

    arguments = {name: operand(argument) for name, argument in node.arguments.items()}
    call = Typing(replace(node, arguments=arguments), types, copies.axes)
    made = operator.axes(call)
    normalized = operator.normalizes(call)
    for value, shape in zip(node.outputs, made, strict=True):
        copy = copies.shape(typed.types[value.name])
        if not all(copies.axes.unify(a, b) for a, b in zip(shape, copy, strict=True)):
            return False
    over = frozenset[int]().union(*(copies.axes.resolve(axis).uids for axis in normalized))
    letters: dict[int, int] = {}
    for pair in copies.pairs:
        w, h = (copies.axes.resolve(copy) for copy in pair)
        if not isinstance(w, Leaf) or not isinstance(h, Leaf):
            return False
        if copies.axes.pinned(w) or copies.axes.pinned(h):
            return False
        if letters.setdefault(w.uid, h.uid) != h.uid or (h.uid in over and w.uid not in over):
            return False
    return True
