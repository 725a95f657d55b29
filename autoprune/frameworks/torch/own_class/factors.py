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
from autoprune.ir.graph import Node, Value
from autoprune.ir.plan_parts import Factor


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


_MOVES = frozenset(
    f"aten.{name}"
    for name in (
        "view", "reshape", "_unsafe_view", "flatten", "unflatten", "squeeze", "unsqueeze", "expand",
        "contiguous", "clone", "permute", "transpose", "swapaxes", "t", "numpy_T", "mT", "slice",
        "select", "narrow", "split", "split_with_sizes", "chunk", "unbind", "index_select", "to",
        "_to_copy", "type_as", "float", "detach", "alias", "dropout", "movedim", "expand_as",
        "repeat", "repeat_interleave", "flip", "roll", "pixel_shuffle", "pixel_unshuffle",
        "index", "gather",
    )
)  # fmt: skip
"""Operators of one tensor that move elements and do not change them."""

_HOMOGENEOUS = _MOVES | frozenset(
    f"aten.{name}"
    for name in (
        "neg", "relu", "leaky_relu", "prelu", "rrelu", "abs", "mean", "sum", "cumsum",
        "linalg_vector_norm",
    )
)  # fmt: skip
"""f(c x) = c f(x) for c > 0."""

_POWERS = {"aten.rsqrt": -0.5, "aten.sqrt": 0.5, "aten.reciprocal": -1.0, "aten.square": 2.0}

_CONTRACTIONS = frozenset(
    f"aten.{name}" for name in ("matmul", "mm", "bmm", "einsum", "baddbmm", "linalg_matmul")
)

_LAYERS = frozenset(
    f"aten.{name}"
    for name in ("linear", "addmm", "conv1d", "conv2d", "conv3d", "convolution", "embedding")
)
_NORMS = frozenset(f"aten.{name}" for name in ("layer_norm", "rms_norm", "group_norm"))

_LINEAR = frozenset({"aten.add", "aten.sub", "aten.cat", "aten.stack", "aten.neg"})

_ATTENTION = "aten.scaled_dot_product_attention"


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
    for d in discrepancies:
        if d.argument == "eps" and _name(d.node) == "aten.rms_norm":
            search.constants[d.node.name, "eps"] = d.wanted
            search.explained.add(d.node.name)
        elif not d.argument:
            search.explained.add(d.node.name)
            search.absorb(d.node.outputs[0], d.wanted)
        else:
            uid, node, factor = search.product_of(d)
            at = products.setdefault(uid, {})
            at[node.name] = at.get(node.name, 1.0) * factor
            search.explained.add(d.node.name)
    for uid, factors in products.items():
        search.scale_operands(uid, factors)
    return search.edits()


def _name(node: Node) -> str:
    return node.op.rsplit(".", 1)[0] if node.op.count(".") > 1 else node.op


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

    def absorb(self, value: Value, factor: float) -> None:
        """Make everything that reads `value` behave as if it were multiplied by `factor`."""
        if math.isclose(factor, 1.0, rel_tol=1e-12):
            return
        if value.name in self.outputs:
            raise Unplaceable("a factor would reach an output")
        for node in self.users.get(value.name, ()):
            self._absorb_at(node, value, factor)

    def _absorb_at(self, node: Node, value: Value, factor: float) -> None:
        name = _name(node)
        first, second = (
            node.arguments.get("input", node.arguments.get("self")),
            node.arguments.get("other"),
        )
        if name in _HOMOGENEOUS and node.inputs[0] == value:
            for output in node.outputs:
                self.absorb(output, factor)
        elif name in _POWERS:
            self.absorb(node.outputs[0], factor ** _POWERS[name])
        elif name == "aten.pow" and isinstance(node.arguments.get("exponent"), int | float):
            exponent = node.arguments["exponent"]
            assert isinstance(exponent, int | float)
            self.absorb(node.outputs[0], factor**exponent)
        elif name == "aten.add" and first == value and isinstance(second, int | float):
            self.constants[node.name, "other"] = second / factor
            self.explained.add(node.name)
            self.absorb(node.outputs[0], factor)
        elif name == "aten.mul":
            other = second if first == value else first
            if other == value:
                self.absorb(node.outputs[0], factor**2)
            elif not (isinstance(other, Value) and self._into(other, factor, node)):
                self.absorb(node.outputs[0], factor)
        elif name == "aten.addcmul" and first != value:
            pair = (node.arguments["tensor1"], node.arguments["tensor2"])
            other = pair[1] if pair[0] == value else pair[0]
            if not (isinstance(other, Value) and self._into(other, factor, node)):
                raise Unplaceable(f"{node.op} `{node.name}` adds something to the product")
        elif name == "aten.div" and first != second:
            self.absorb(node.outputs[0], factor if first == value else 1 / factor)
        elif name in _LAYERS and self._reads(node, value):
            weight = self.weight(node)
            if not self._into(weight, factor, node):
                raise Unplaceable(f"the weight of {node.name} is computed")
        else:
            raise Unplaceable(f"{node.op} `{node.name}` does not pass a factor on")

    def _reads(self, node: Node, value: Value) -> bool:
        return node.arguments.get("mat1" if _name(node) == "aten.addmm" else "input") == value

    def weight(self, node: Node) -> Value:
        weight = node.arguments.get("mat2" if _name(node) == "aten.addmm" else "weight")
        if not isinstance(weight, Value):
            raise Unplaceable(f"{node.name} has no weight")
        return weight

    def _into(self, value: Value, factor: float, user: Node) -> bool:
        """Multiply a parameter, cast or shifted by a constant on the way, by `factor`."""
        if value.name in self.parameters:
            self.edit(value.name, Factor("", factor), user)
            return True
        shift = 0.0
        node = self.producer.get(value.name)
        below = user
        while node is not None and len(self.users[value.name]) == 1:
            name, source = _name(node), node.inputs[0] if node.inputs else None
            literal = node.arguments.get("other")
            if source is None:
                return False
            if name == "aten.add" and isinstance(literal, int | float) and not shift:
                shift = float(literal)
            elif name not in _MOVES:
                return False
            below, value, node = node, source, self.producer.get(source.name)
        if value.name not in self.parameters:
            return False
        self.edit(value.name, Factor("", factor, (factor - 1) * shift), below)
        return True

    def product_of(self, d: Discrepancy) -> tuple[int, Node, float]:
        """The product whose scale a differing literal sets: its summed leaf, and the factor."""
        if _name(d.node) == _ATTENTION:
            return *self._summed(d.node), d.wanted / d.got
        if _name(d.node) not in ("aten.mul", "aten.div"):
            raise Unplaceable(f"{d.argument} of {d.node.op} is another number")
        factor = d.wanted / d.got if _name(d.node) == "aten.mul" else d.got / d.wanted
        node: Node | None = self.producer.get(d.node.inputs[0].name)
        while node is not None and _name(node) in _HOMOGENEOUS:
            node = self.producer.get(node.inputs[0].name)
        if node is not None and _name(node) in _CONTRACTIONS:
            return *self._summed(node), factor
        value = d.node.outputs[0]
        while len(self.users.get(value.name, ())) == 1:
            node = self.users[value.name][0]
            if _name(node) in _CONTRACTIONS or _name(node) == _ATTENTION:
                return *self._summed(node), factor
            if _name(node) not in _MOVES:
                break
            value = node.outputs[0]
        raise Unplaceable(f"the factor of {d.node.name} belongs to no product of two operands")

    def operands(self, node: Node) -> tuple[Value, Value]:
        if _name(node) == _ATTENTION:
            return node.arguments["query"], node.arguments["key"]  # type: ignore[return-value]
        tensors = [v for v in node.inputs if v.shape]
        return tensors[-2], tensors[-1]

    def _summed(self, node: Node) -> tuple[int, Node]:
        """A prunable leaf that both operands carry and the product does not."""
        a, b = (self._leaves(v) for v in self.operands(node))
        out = frozenset[int]() if _name(node) == _ATTENTION else self._leaves(node.outputs[0])
        if _name(node) == _ATTENTION:
            query, key = self.operands(node)
            a, b = (self.typed.types[v.name][-1].uids for v in (query, key))
        shared = sorted(((a & b) - out) & self.names.keys())
        if not shared:
            raise Unplaceable(f"{node.op} `{node.name}` sums over nothing prunable")
        return shared[0], node

    def _leaves(self, value: Value) -> frozenset[int]:
        return frozenset[int]().union(*(axis.uids for axis in self.typed.types[value.name]))

    def scale_operands(self, uid: int, factors: Mapping[str, float]) -> None:
        """Multiply what is summed over a leaf, in both operands alike, into the given products.

        Values that come from the same parameters are scaled with them; the layer that reads them
        then undoes it.
        """
        carries = self._carriers(uid)
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

    def _carriers(self, uid: int) -> frozenset[str]:
        return frozenset(
            name
            for name, shape in self.typed.types.items()
            if any(uid in axis.uids for axis in shape)
        )

    def _sources(self, value: Value, carries: frozenset[str], into: set[str]) -> None:
        """The parameters nearest to `value` whose scale at the leaf is the scale of `value`."""
        if value.name in self.parameters:
            into.add(value.name)
            return
        node = self.producer.get(value.name)
        if node is None:
            raise Unplaceable(f"{value.name} has no parameter to take up a factor")
        carried = [v for v in dict.fromkeys(node.inputs) if v.name in carries]
        name = _name(node)
        affine = [v for v in carried if v.name in self.parameters]
        if (name in _LAYERS or name in _NORMS or name == "aten.mul") and affine:
            into.update(v.name for v in affine)
        elif name in _MOVES or name in _LINEAR:
            for v in carried:
                self._sources(v, carries, into)
        elif name in ("aten.mul", "aten.div") and carried:
            self._sources(self._varying(carried), carries, into)
        else:
            raise Unplaceable(f"{node.op} `{node.name}` does not take a factor from its inputs")

    def _varying(self, values: Sequence[Value]) -> Value:
        """The factor of a product that depends on parameters, such as `q` in `q * cos`."""
        found = [v for v in values if self._depends(v)]
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
        self.degrees = dict.fromkeys(scaled, 1)
        self.totals: dict[str, int] = {}
        self.undone: dict[str, tuple[int, Node]] = {}

    def through(self, node: Node) -> None:
        """Carry the powers from the inputs of a call to its outputs.

        Raises:
            Unplaceable: if the call does not pass a factor on.
        """
        carried = [v for v in dict.fromkeys(node.inputs) if v.name in self.carries]
        entering = {v.name: self.degrees.get(v.name, 0) for v in carried}
        if not any(entering.values()):
            return
        name = _name(node)
        leaving = [v for v in node.outputs if v.name in self.carries]
        degree: int | None
        if name == _ATTENTION or (name in _CONTRACTIONS and not leaving):
            operands = self.search.operands(node)
            self.totals[node.name] = sum(entering.get(v.name, 0) for v in operands)
            rest = {entering[v.name] for v in carried if v not in operands}
            degree = max(rest, default=0)
        elif name in _LAYERS and not leaving:
            weight = self.search.weight(node)
            others = [d for v, d in entering.items() if v != weight.name]
            if weight.name not in self.search.parameters or entering.get(weight.name) != 0:
                raise _refused(node)
            self.undone[weight.name] = (max(others), node)
            return
        else:
            degree = self._degree(name, node, entering)
        if degree is None or (degree and not leaving):
            raise _refused(node)
        self.degrees.update((v.name, degree) for v in leaving)

    def _degree(self, name: str, node: Node, entering: Mapping[str, int]) -> int | None:
        """The power with which a factor leaves a call that it enters, if it is one power."""
        powers = list(entering.values())
        if name == "aten.mul" or (name in _CONTRACTIONS and name != "aten.baddbmm"):
            return sum(powers)
        if name == "aten.div":
            first, *divisors = (entering.get(v.name, 0) for v in node.inputs)
            return first - sum(divisors)
        if name in _LAYERS or name in _NORMS:
            parameters = self.search.parameters
            affine = [p for v, p in entering.items() if v in parameters]
            activations = [p for v, p in entering.items() if v not in parameters]
            return affine[0] if len(set(affine)) == 1 and not any(activations) else None
        shifted = isinstance(node.arguments.get("other"), int | float)
        linear = name in _MOVES or (name in _LINEAR and not shifted)
        return powers[0] if linear and len(set(powers)) == 1 else None


def _refused(node: Node) -> Unplaceable:
    return Unplaceable(f"{node.op} `{node.name}` would see a factor it does not pass on")
