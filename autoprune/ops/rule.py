"""What an operator family answers, and the registry that finds the answer by operator name.

An operator states, from one place, what any pass may ask of it:

* `axes`: which axes of its inputs and outputs are the same (called once while types are solved);
* `zero`: what it makes of removed positions whose inputs are zero, constant or anything;
* `cost`: its FLOPs as a polynomial in axis sizes;
* `product`: what it multiplies and sums, if that is what it does;
* `resize`: its integer arguments at new axis sizes;
* traits: whether it moves elements or computes, what comes out of it of a factor on its operands,
  over what it normalizes, whether its outputs hide how its operands differ.

An operator without a rule pins every axis it touches and has no trait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from autoprune.errors import GraphError, RuleError
from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Contraction, Operand, Term
from autoprune.ir.graph import Argument, Value
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

Cost = tuple[tuple[int, tuple[Axis, ...]], ...]
"""FLOPs as a sum of monomials: a coefficient times the sizes of axes."""


def no_cost(call: Call) -> Cost:
    """Operators that only move or look up data, and cheap ones, count as free."""
    return ()


def over_nothing(call: Call) -> tuple[Axis, ...]:
    """Operators whose outputs depend, at any index, on the inputs at the same indices alone.

    Sums and other reductions over axes that the outputs lack, and whatever the operator does
    along axes it pins, make no difference.
    """
    return ()


def no_resize(call: Sizing) -> Resized:
    """Operators whose arguments name no sizes."""
    return Resized()


Terms = Sequence[Term]
"""What an operator computes, as far as positive factors go: a sum or a choice of products.

`x * w + b` has the terms `{x: 1, w: 1}` and `{b: 1}`, `rsqrt(x)` has `{x: -0.5}`. Operands that are
in no term do not pass a factor on.
"""


def no_terms(call: Call) -> Terms:
    """Operators through which no factor can be followed."""
    return ()


def of_first(call: Call) -> Terms:
    """f(c x) = c f(x) for the first tensor and c > 0."""
    return ({call.tensors[0]: 1.0},)


def of_each(call: Call) -> Terms:
    """f(c x, c y, ...) = c f(x, y, ...) for all tensors of numbers and c > 0."""
    return tuple({v: 1.0} for v in call.tensors if is_number(v))


def is_number(value: Value) -> bool:
    """Whether a value holds real or complex numbers, not integers, booleans or sizes."""
    return value.dtype.startswith(("float", "bfloat", "complex"))


def power_of(terms: Terms, scaled: Mapping[Operand, float]) -> float | None:
    """The power of `c` that comes out if each factor in `scaled` is multiplied by that of `c`.

    None if no power of `c` comes out.
    """
    found = [sum(term.get(f, 0.0) * power for f, power in scaled.items()) for term in terms]
    lost = any(power and all(f not in term for term in terms) for f, power in scaled.items())
    return None if lost or not found or max(found) - min(found) > TINY else found[0]


TINY = 1e-9
"""Powers that differ by less are the same."""


Trait = bool | Callable[[Call], bool]
"""Something that holds of an operator, or of some calls of it."""


@dataclass(frozen=True)
class Operator:
    """The answers of one operator.

    Attributes:
        axes: types of the outputs, one tuple of axes per output.
        zero: state of the outputs at the removed positions of one leaf.
        cost: FLOPs.
        resize: arguments after the cut.
        aliases: outputs share memory with the input (views), so they need none of their own.
        uniform: at removed positions, inputs of one number a unit give outputs of one number.
        normalizes: axes over which statistics are taken although the outputs keep them; see
            `over_nothing`. None if that is not known: nothing that meets the operator is chosen per
            outer unit.
        product: what a call multiplies and sums; None if it does something else.
        inner: a product inside, where more than that is done to it; `scale` multiplies it.
        homogeneous: see `terms`.
        shift: the number that a call adds to its first tensor, if that is all it does.
        moves: every element of the outputs is an element of the operands, chosen without looking
            at their values.
        reshapes: it moves elements, which stay in row-major order where as many come out as go in.
        saturates: operands that differ much may give outputs that hardly differ, because these are
            bounded, rounded or chosen among a few.
        draws: the outputs are a matter of chance.
        implied: the numbers that arguments stand for where a call leaves them out.
    """

    axes: Callable[[Typing], Sequence[Shape]]
    zero: Callable[[Zeroing], State]
    cost: Callable[[Call], Cost] = no_cost
    resize: Callable[[Sizing], Resized] = no_resize
    aliases: bool = False
    uniform: bool = False
    normalizes: Callable[[Call], Sequence[Axis]] | None = over_nothing
    product: Callable[[Call], Contraction | None] | None = None
    inner: Callable[[Call], Contraction] | None = None
    homogeneous: Callable[[Call], Terms] | None = None
    shift: Callable[[Call], float | None] = lambda call: None
    moves: Trait = False
    reshapes: bool = False
    saturates: Trait = False
    draws: Trait = False
    implied: Callable[[Call], Mapping[str, float]] = lambda call: {}

    def terms(self, call: Call) -> Terms:
        """What becomes of positive factors on operands that are numbers; integers stay integers.

        Stated by `homogeneous`, or else follows from what the operator multiplies or moves. What
        has no elements, such as an empty cache before it is appended to, says nothing.
        """
        contraction = None if self.product is None else self.product(call)
        if self.homogeneous is not None:
            found = self.homogeneous(call)
        elif contraction is not None:
            found = () if contraction.also else contraction.terms
        else:
            found = of_each(call) if self.selects(call) else ()
        return [
            {f: p for f, p in term.items() if not isinstance(f, Value) or is_number(f)}
            for term in found
            if all(0 not in f.shape for f in term if isinstance(f, Value))
        ]

    def selects(self, call: Call) -> bool:
        """Whether a call moves elements, and computes nothing."""
        return self.reshapes or holds(self.moves, call)


def holds(trait: Trait, call: Call) -> bool:
    """Whether a call has a trait."""
    return trait(call) if callable(trait) else trait


_OPERATORS: dict[str, Operator] = {}
_OUTSIDE: dict[str, Operator] = {}
"""Rules given by users of the package."""


def register(names: str, operator: Operator) -> Operator:
    """Bind an operator to space-separated names, with or without overload: `aten.add.Tensor`.

    Raises:
        GraphError: if a name is taken.
    """
    for name in names.split():
        if name in _OPERATORS:
            raise GraphError(f"operator {name} has a rule already")
        _OPERATORS[name] = operator
    find.cache_clear()
    return operator


def names_in(namespace: str) -> frozenset[str]:
    """Operators of a namespace, without overloads, that the package itself has a rule for."""
    split = (name.split(".") for name in _OPERATORS)
    return frozenset(parts[1] for parts in split if parts[0] == namespace)


def define(name: str, operator: Operator, *, override: bool = False) -> None:
    """Give an operator a rule from outside the package; a second one replaces the first.

    Raises:
        RuleError: if the package has a rule for it and `override` is not set.
    """
    if not override and _spelled(_OPERATORS, name) is not None:
        raise RuleError(
            f"operator {name} has a rule already", hint="pass override=True to replace it"
        )
    _OUTSIDE[name] = operator
    find.cache_clear()


def forget(name: str) -> None:
    """Take back a rule from outside the package; one of the package's own comes back.

    Raises:
        RuleError: if there is none.
    """
    if name not in _OUTSIDE:
        raise RuleError(f"operator {name} has no rule from outside the package")
    del _OUTSIDE[name]
    find.cache_clear()


def known(op: str) -> Operator:
    """The rule for an operator name that has one.

    Raises:
        GraphError: if it has none.
    """
    operator = find(op)
    if operator is None:
        raise GraphError(f"operator {op} has no rule")
    return operator


@cache
def find(op: str) -> Operator | None:
    """The rule for an operator name, tried with and without overload and in-place underscore.

    `view_copy` is `view` without shared memory. Rules from outside the package come first.
    """
    return _spelled(_OUTSIDE, op) or _spelled(_OPERATORS, op)


def _spelled(table: Mapping[str, Operator], op: str) -> Operator | None:
    found = table.get(op)
    if found is not None:
        return found
    packet = op.rsplit(".", 1)[0] if op.count(".") > 1 else op
    found = table.get(packet) or table.get(packet.removesuffix("_"))
    if found is None and packet.endswith("_copy"):
        view = _spelled(table, op.replace("_copy", "", 1))
        return view and replace(view, aliases=False)
    return found


@cache
def writes_in_place(op: str) -> bool:
    """Whether the operator overwrites its first argument, by ATen's naming convention."""
    packet = op.rsplit(".", 1)[0] if op.count(".") > 1 else op
    return packet.endswith("_") and not packet.endswith("__")


def joined(call: Zeroing, values: Sequence[Argument]) -> State:
    """The weakest state among those of `values`."""
    return max((call.state(v) for v in values), default=State.CONSTANT)


def product(states: Iterable[State]) -> State:
    """State of a product of factors in these states: zero as soon as one factor is."""
    found = set(states)
    return State.ZERO if State.ZERO in found and State.UNDEFINED not in found else max(found)


def first_state(call: Zeroing) -> State:
    """State of the first tensor, which the operator passes on."""
    return call.state(call.tensors[0])


def never_zero(call: Zeroing) -> State:
    """What the operator makes of zeros is a number that differs from place to place."""
    return max(State.CONSTANT, first_state(call))


def any_state(call: Zeroing) -> State:
    """Nothing is known of what the operator makes."""
    return State.ANY


def joined_state(call: Zeroing) -> State:
    """The weakest state among those of all tensors."""
    return joined(call, call.tensors)


def product_state(call: Zeroing) -> State:
    """State of the product of all tensors."""
    return product(call.state(v) for v in call.tensors)


def carried(call: Zeroing, values: Sequence[Value]) -> State:
    """The weakest state among the values that carry the leaf."""
    return max((call.state(v) for v in values if call.carries(v)), default=State.ANY)


def passes_on(call: Zeroing) -> State:
    """The outputs hold what the inputs held."""
    return carried(call, call.tensors)


def unknown_axes(call: Typing) -> list[Shape]:
    """An operator nobody knows: everything it touches is pinned."""
    reason = "operator without a rule"
    for value in call.tensors:
        for axis in call.axes_of(value):
            call.pin(axis, reason)
    return [tuple(call.fixed(n, reason) for n in v.shape) for v in call.node.outputs]


UNKNOWN = Operator(axes=unknown_axes, zero=any_state, normalizes=None)
