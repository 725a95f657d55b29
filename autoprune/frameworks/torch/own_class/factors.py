"""Where to put the factors that a cut needs and a model's own forward lacks.

Cutting an axis that a statistic is taken over, or that sets the scale of an attention, leaves the
cut graph with another constant than the model's forward computes. Such a factor need not stay
where it arises: an RMSNorm's can go into its gain and its epsilon, an attention's into the rows
that produce queries and keys.

    rsqrt(s mean(x^2) + eps) gain  =  rsqrt(mean(x^2) + eps / s) (gain / sqrt(s))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoprune.analysis.typing import TypedGraph
from autoprune.frameworks.torch.own_class.sameness import Discrepancy
from autoprune.ir.axes import uids_of
from autoprune.ir.contraction import Contraction, Operand, Term
from autoprune.ir.graph import Node, Value
from autoprune.ir.plan_parts import Factor
from autoprune.ops.rule import TINY, Terms, is_number, power_of
from autoprune.ops.views import Call


class Unplaceable(Exception):
    """No parameter and no constant can take a factor up."""


@dataclass(frozen=True)
class Edits:
    """What to change in a model so that it computes what the cut graph computes.

    Attributes:
        factors: by parameter, `p -> scale * p + offset` (at the positions of one leaf).
        constants: by node and argument name, the new value of a literal.
        explained: nodes whose deviation from the cut graph these edits make up for.
    """

    factors: Mapping[str, Factor]
    constants: Mapping[tuple[str, str], float]
    explained: frozenset[str]


def place(
    typed: TypedGraph, names: Mapping[int, str], discrepancies: Sequence[Discrepancy]
) -> Edits:
    """Find parameters and constants that take up the factors of the given discrepancies.

    Args:
        typed: the original graph.
        names: group names by leaf.
        discrepancies: between the cut graph and a model of the original's class.

    Raises:
        Unplaceable: if there are none, saying which factor.
    """
    search = _Search(typed, names)
    products: dict[int, dict[str, float]] = {}
    lacking = {d.node.name: d.wanted for d in discrepancies if not d.argument}
    for d in discrepancies:
        search.explained.add(d.node.name)
        if d.argument and search.normalizes(d.node):
            search.constants[d.node.name, d.argument] = d.wanted
        elif d.argument:
            uid, node, factor = search.product_of(d)
            at = products.setdefault(uid, {})
            at[node.name] = at.get(node.name, 1.0) * factor
    search.absorb(lacking)
    for uid, factors in products.items():
        search.scale_operands(uid, factors)
    return search.edits()


@dataclass
class _Search:
    typed: TypedGraph
    names: Mapping[int, str]
    factors: dict[str, Factor] = field(default_factory=dict)
    constants: dict[tuple[str, str], float] = field(default_factory=dict)
    explained: set[str] = field(default_factory=set)
    covered: dict[str, set[str]] = field(default_factory=dict)
    """By edited parameter, the nodes that are to see the edited value."""

    def __post_init__(self) -> None:
        graph = self.typed.graph
        self.parameters = {p.value.name for p in graph.parameters if p.kind == "parameter"}
        self.producer = {v.name: n for n in graph.nodes for v in n.outputs}
        self.users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for value in dict.fromkeys(node.inputs):
                if node.outputs:  # an assertion uses nothing up
                    self.users.setdefault(value.name, []).append(node)
        self.outputs = {v.name for v in graph.outputs}

    def edits(self) -> Edits:
        for name, seen in self.covered.items():
            if seen != {n.name for n in self.users.get(name, ())} or name in self.outputs:
                raise Unplaceable(f"{name} is used elsewhere too")
        # By name: the search goes through sets, whose order differs between processes.
        factors = dict(sorted(self.factors.items()))
        return Edits(factors, self.constants, frozenset(self.explained))

    def edit(self, name: str, factor: Factor, user: Node) -> None:
        known = self.factors.setdefault(name, factor)
        same = known.group == factor.group and all(
            math.isclose(a, b, rel_tol=1e-12)
            for a, b in ((known.scale, factor.scale), (known.offset, factor.offset))
        )
        if not same:
            raise Unplaceable(f"{name} would have to take up two factors")
        self.covered.setdefault(name, set()).add(user.name)

    def absorb(self, lacking: Mapping[str, float]) -> None:
        """Let parameters and constants further on make up for factors that calls lack.

        Args:
            lacking: by node, what its result lacks.
        """
        logs: dict[Value, float] = {}
        """Of the factor that each value lacks."""
        for node in self.typed.graph.nodes:
            entering: dict[Operand, float] = {
                v: logs[v] for v in dict.fromkeys(node.inputs) if v in logs
            }
            lacks = math.log(lacking.get(node.name, 1.0))
            if entering and node.outputs:  # an assertion uses nothing up
                lacks += self._left(node, entering)
            if abs(lacks) > TINY:
                logs.update(dict.fromkeys(filter(is_number, node.outputs), lacks))
        if not self.outputs.isdisjoint(v.name for v in logs):
            raise Unplaceable("a factor would reach an output")

    def _left(self, node: Node, entering: Mapping[Operand, float]) -> float:
        """The logarithm of the factor that the result of a call lacks."""
        terms = self.terms(node)
        powers = [
            power_of([term], {v: x for v, x in entering.items() if v in term}) for term in terms
        ]
        wrong = [(term, p) for term, p in zip(terms, powers, strict=True) if p and abs(p) > TINY]
        known = all(any(v in term for term in terms) for v in entering)
        if known and not wrong:
            return 0.0
        if known and len(wrong) == 1:
            [(term, power)] = wrong
            if self._into_another(term, power, entering, node):
                return 0.0
            literal = next((next(iter(t)) for t in terms if t is not term and len(t) == 1), None)
            number = node.arguments.get(literal) if isinstance(literal, str) else None
            if len(terms) == 2 and isinstance(literal, str) and isinstance(number, int | float):
                self.constants[node.name, literal] = number / math.exp(power)
                self.explained.add(node.name)
                return power
        same = power_of(terms, entering)
        if same is None:
            raise Unplaceable(f"{node.op} `{node.name}` does not pass a factor on")
        return same

    def _into_another(
        self, term: Term, power: float, entering: Mapping[Operand, float], node: Node
    ) -> bool:
        """Let a factor of a product that is right take up what the others lack."""
        return any(
            self._into(other, math.exp(power / own), node)
            for other, own in term.items()
            if isinstance(other, Value) and other not in entering and own
        )

    def normalizes(self, node: Node) -> bool:
        """Whether a call takes statistics, so that its numbers are no factors."""
        over = self.typed.operator_of(node).normalizes
        return over is not None and bool(over(Call(node, self.typed.types)))

    def terms(self, node: Node) -> Terms:
        """What a call makes of factors."""
        return self.typed.operator_of(node).terms(Call(node, self.typed.types))

    def product(self, node: Node) -> Contraction | None:
        """What a call sums, or sums on the way to something else."""
        operator = self.typed.operator_of(node)
        found = operator.inner or operator.product
        return None if found is None else found(Call(node, self.typed.types))

    def is_inner(self, node: Node) -> bool:
        """Whether a product is that of two activations."""
        product = self.product(node)
        return product is not None and not self.parameters.intersection(
            value.name for value, _ in product.operands
        )

    def _into(self, value: Value, factor: float, user: Node) -> bool:
        """Multiply a parameter, moved or shifted by a constant on the way, by `factor`."""
        if value.name in self.parameters:
            self.edit(value.name, Factor("", factor), user)
            return True
        shift = 0.0
        node = self.producer.get(value.name)
        below = user
        while node is not None and node.tensors and len(self.users[value.name]) == 1:
            call, operator = Call(node, self.typed.types), self.typed.operator_of(node)
            added = operator.shift(call)
            if added is not None and not shift:
                shift = added
            elif not operator.selects(call):
                return False
            below, value = node, node.tensors[0]
            node = self.producer.get(value.name)
        if value.name not in self.parameters:
            return False
        self.edit(value.name, Factor("", factor, (factor - 1) * shift), below)
        return True

    def product_of(self, d: Discrepancy) -> tuple[int, Node, float]:
        """The product whose scale a differing literal sets: its summed leaf, and the factor."""
        if self.typed.operator_of(d.node).inner is not None:
            return *self._summed(d.node), d.wanted / d.got
        power = power_of(self.terms(d.node), {d.argument: 1.0})
        if power is None:
            raise Unplaceable(f"{d.argument} of {d.node.op} is another number")
        factor = (d.wanted / d.got) ** power
        node: Node | None = self.producer.get(d.node.inputs[0].name)
        while node is not None and list(self.terms(node)) == [{node.inputs[0]: 1.0}]:
            node = self.producer.get(node.inputs[0].name)
        if node is not None and self.is_inner(node):
            return *self._summed(node), factor
        value = d.node.outputs[0]
        while len(self.users.get(value.name, ())) == 1:
            node = self.users[value.name][0]
            if self.is_inner(node):
                return *self._summed(node), factor
            if not self.typed.operator_of(node).selects(Call(node, self.typed.types)):
                break
            value = node.outputs[0]
        raise Unplaceable(f"the factor of {d.node.name} belongs to no product of two operands")

    def operands(self, node: Node) -> tuple[Value, ...]:
        product = self.product(node)
        return () if product is None else tuple(value for value, _ in product.operands)

    def _summed(self, node: Node) -> tuple[int, Node]:
        """A prunable leaf that all operands carry and the product does not."""
        product = self.product(node)
        assert product is not None
        found = set(self.names)
        for value, dims in product.operands:
            axes = zip(self.typed.types[value.name], dims, strict=True)
            found &= uids_of(axis for axis, dim in axes if product.kept.isdisjoint(dim))
        if not found:
            raise Unplaceable(f"{node.op} `{node.name}` sums over nothing prunable")
        return min(found), node

    def scale_operands(self, uid: int, factors: Mapping[str, float]) -> None:
        """Multiply what is summed over a leaf, in both operands alike, into the given products.

        Values that come from the same parameters are scaled with them; the layer that reads them
        then undoes it.
        """
        carries = frozenset(
            name for name, shape in self.typed.types.items() if uid in uids_of(shape)
        )
        chosen: set[str] = set()
        for name in factors:
            node = next(n for n in self.typed.graph.nodes if n.name == name)
            for operand in self.operands(node):
                self._sources(operand, carries, chosen)
        flow = _Flow(self, carries, chosen)
        for node in self.typed.graph.nodes:
            flow.through(node)
        if not flow.totals or not all(flow.totals.get(name) for name in factors):
            raise Unplaceable("a product is reached by none of its parameters")
        roots = [factors.get(name, 1.0) ** (1 / total) for name, total in flow.totals.items()]
        if not all(math.isclose(root, roots[0], rel_tol=1e-12) for root in roots):
            raise Unplaceable("products that share parameters need different factors")
        group = self.names[uid]
        for name in chosen:
            for user in self.users[name]:
                self.edit(name, Factor(group, roots[0]), user)
        for name, (degree, user) in flow.undone.items():
            self.edit(name, Factor(group, roots[0] ** -degree), user)

    def _sources(self, value: Value, carries: frozenset[str], into: set[str]) -> None:
        """The parameters nearest to `value` whose scale at the leaf is the scale of `value`."""
        if value.name in self.parameters:
            into.add(value.name)
            return
        node = self.producer.get(value.name)
        if node is None:
            raise Unplaceable(f"{value.name} has no parameter to take up a factor")
        found = False
        for term in self.terms(node):
            carried = [f for f in term if isinstance(f, Value) and f.name in carries]
            own = {v.name for v in carried if v.name in self.parameters}
            found = found or bool(carried)
            if own:
                into.update(own)
            elif carried:
                self._sources(self._varying(carried), carries, into)
        if not found:
            raise Unplaceable(f"{node.op} `{node.name}` does not take a factor from its inputs")

    def _varying(self, values: Sequence[Value]) -> Value:
        """The factor of a product that depends on parameters, such as `q` in `q * cos`."""
        found = [v for v in values if self._depends(v)] if len(values) > 1 else values
        if len(found) != 1:
            raise Unplaceable("a product of two factors")
        return found[0]

    def _depends(self, value: Value) -> bool:
        stack, seen = [value], set[str]()
        while stack:
            v = stack.pop()
            if v.name in self.parameters:
                return True
            node = self.producer.get(v.name)
            if node is not None and node.name not in seen:
                seen.add(node.name)
                stack.extend(node.inputs)
        return False


class _Flow:
    """With which power a factor on some parameters enters each value that carries the leaf.

    Attributes:
        totals: by product of two operands, the power of the factor in it.
        undone: by parameter that contracts scaled values, their power and the call.
    """

    def __init__(self, search: _Search, carries: frozenset[str], scaled: set[str]) -> None:
        self.search = search
        self.carries = carries
        self.degrees = dict.fromkeys(scaled, 1.0)
        self.totals: dict[str, float] = {}
        self.undone: dict[str, tuple[float, Node]] = {}

    def through(self, node: Node) -> None:
        """Carry the powers from the inputs of a call to its outputs.

        Raises:
            Unplaceable: if the call does not pass a factor on.
        """
        carried = [v for v in dict.fromkeys(node.inputs) if v.name in self.carries]
        entering = {v.name: self.degrees.get(v.name, 0.0) for v in carried}
        if not any(entering.values()):
            return
        leaving = [v for v in node.outputs if v.name in self.carries]
        product = self.search.product(node)
        if self.search.typed.operator_of(node).inner is not None:
            degree: float | None = self._met(node, entering)
        elif product is None or leaving:
            degree = power_of(self.search.terms(node), {v: entering[v.name] for v in carried})
        elif self.search.is_inner(node):
            self._met(node, entering)
            degree = 0.0
        else:
            self._undo(node, entering)
            return
        if degree is None or (degree and not leaving):
            raise _refused(node)
        self.degrees.update((v.name, degree) for v in filter(is_number, leaving))

    def _met(self, node: Node, entering: Mapping[str, float]) -> float:
        """Note the power of the factor in a product; returns that of what is beside it."""
        operands = {v.name for v in self.search.operands(node)}
        self.totals[node.name] = sum(d for name, d in entering.items() if name in operands)
        return max((d for name, d in entering.items() if name not in operands), default=0.0)

    def _undo(self, node: Node, entering: Mapping[str, float]) -> None:
        """Let the parameter of a layer undo the factors on what it sums."""
        own = [name for name in entering if name in self.search.parameters]
        if len(own) != 1 or entering[own[0]]:
            raise _refused(node)
        self.undone[own[0]] = (max(d for name, d in entering.items() if name not in own), node)


def _refused(node: Node) -> Unplaceable:
    return Unplaceable(f"{node.op} `{node.name}` would see a factor it does not pass on")
