"""Rules for operators from outside the package, by letters or by a function.

    import autoprune as ap

    ap.rule("mylib.my_linear", "... i, o i + o -> ... o", zero=ap.State.ZERO)

    @ap.rule("mylib.scaled_add", zero=ap.State.ZERO)
    def scaled_add(call):
        return tuple(map(call.same, call.axes_of("a"), call.axes_of("b")))

`autoprune.testing.check_rule` tells whether such a rule is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack, overload

from autoprune.errors import RuleError
from autoprune.ir.axes import Axis
from autoprune.ir.contraction import Operand, Term
from autoprune.ir.graph import Argument
from autoprune.ir.group import Guarantee
from autoprune.ops import rule as registry
from autoprune.ops.rule import Cost, Operator, Terms, no_terms, of_each
from autoprune.ops.statement import lettered, parse, stated_terms
from autoprune.ops.views import Call, Resized, Shape, Sizing, State, Typing, Zeroing

Equations = Callable[[Typing], Shape | list[Shape]]
Zero = State | Callable[[Zeroing], State]
Homogeneous = bool | Mapping[str, float] | Callable[[Call], Terms]
Resize = Callable[[Sizing], Resized | Mapping[str, Argument]]
Written = TypeVar("Written", bound=Equations)


class Traits(TypedDict, total=False):
    """What else may be known of an operator; what is not said is not assumed.

    Attributes:
        homogeneous: how a positive factor on operands comes out again. True: if all are multiplied
            by it, or one factor of each product where letters state products, the outputs are. By
            name of an argument, the power with which it is a factor of the outputs:
            `{"x": 2}` for a square, `{"a": 1, "b": -1}` for a quotient. Or a function from a call
            to such products, which are summed (`autoprune.ops.rule.Terms`).
        moves: every element of the outputs is an element of the operands, whatever their values.
        saturates: large differences of operands may hardly be seen in the outputs, which are
            bounded, rounded or chosen among a few.
        draws: it draws random numbers.
        normalizes: a function from a call to the axes over which statistics are taken although the
            outputs keep them; without letters, None (the default) says that this is not known.
    """

    homogeneous: Homogeneous
    moves: bool
    saturates: bool
    draws: bool
    normalizes: Callable[[Call], Sequence[Axis]] | None


@overload
def rule(
    op: Any,
    letters: None = None,
    *,
    zero: Zero = ...,
    cost: Callable[[Call], Cost] | None = ...,
    resize: Resize | None = ...,
    override: bool = ...,
    **traits: Unpack[Traits],
) -> Callable[[Written], Written]: ...


@overload
def rule(
    op: Any,
    letters: str,
    *,
    zero: Zero = ...,
    cost: Callable[[Call], Cost] | None = ...,
    resize: Resize | None = ...,
    pin: str = ...,
    override: bool = ...,
    **traits: Unpack[Traits],
) -> None: ...


def rule(
    op: Any,
    letters: str | None = None,
    *,
    zero: Zero = State.ANY,
    cost: Callable[[Call], Cost] | None = None,
    resize: Resize | None = None,
    pin: str = "",
    override: bool = False,
    **traits: Unpack[Traits],
) -> Callable[[Written], Written] | None:
    """Say which axes of an operator's tensors are the same, in letters or by a function.

    With letters this registers the rule; without, it decorates a function that is given the call
    and returns the axes of the output (of several outputs, a list of them). It states equations
    by `call.same` and forbids cuts by `call.pin`. Whatever it does not pin may be cut.
    Registering an operator again replaces its rule.

    Args:
        op: the operator or its name, such as `"mylib.scaled_add"` for all of its overloads or
            `"onnx.Conv"`.
        letters: the axes of operands and outputs: `"... i, o i + o -> ... o"` (see
            `autoprune.ops.statement`).
        zero: what the operator makes of positions at which its operands are zero; or a function
            that answers for each call. What is not said is not assumed: by default a cut that
            changes a sum over the axis counts as approximate, and no output as zero.
        cost: FLOPs of a call; by default those of the products that the letters sum.
        resize: the arguments that change when axes shrink, by name.
        pin: space-separated letters that keep their size.
        override: replace a rule of the package itself.
        **traits: what else is known of the operator, see `Traits`.

    Raises:
        RuleError: if the letters are malformed, or the package has a rule for the operator.
    """

    def register(operator: Operator, whole: Callable[[Call], Terms]) -> None:
        name = operator_name(op)
        if resize is not None:
            operator = replace(operator, resize=_resize_rule(resize))
        if cost is not None:
            operator = replace(operator, cost=cost)
        if not isinstance(zero, State):
            operator = replace(operator, zero=zero)
        if "homogeneous" in traits:
            operator = _scaling(operator, traits["homogeneous"], whole)
        others: dict[str, Any] = {k: v for k, v in traits.items() if k != "homogeneous"}
        operator = replace(operator, **others)
        registry.define(name, operator, override=override)

    def decorate(equations: Written) -> Written:
        operator = Operator(axes=_axes_rule(equations), zero=_zero_rule(zero), normalizes=None)
        register(operator, of_each)
        return equations

    if letters is None:
        if pin:
            raise RuleError(
                "pin= names letters, and none are given", hint="use call.pin(axis, why)"
            )
        return decorate
    stated = parse(letters, pin)
    register(lettered(stated, zero if isinstance(zero, State) else State.ANY), stated_terms(stated))
    return None


def forget_rule(op: Any) -> None:
    """Take back a rule given by `rule`; where it replaced one of the package, that comes back.

    Raises:
        RuleError: if there is none.
    """
    registry.forget(operator_name(op))


def operator_name(op: Any) -> str:
    """The name under which graphs list an operator, which may be given by name or itself.

    >>> operator_name("mylib::scaled_add")
    'mylib.scaled_add'
    """
    name = op if isinstance(op, str) else str(getattr(op, "_opoverload", op))
    return name.replace("::", ".").removesuffix(".default")


def _axes_rule(equations: Equations) -> Callable[[Typing], Sequence[Shape]]:
    def axes(call: Typing) -> Sequence[Shape]:
        shapes = equations(call)
        return shapes if isinstance(shapes, list) else [tuple(shapes)]

    return axes


def _scaling(
    operator: Operator, homogeneous: Homogeneous, whole: Callable[[Call], Terms]
) -> Operator:
    """The operator with what is said of factors; `whole` is what it means to be homogeneous."""
    if isinstance(homogeneous, Mapping):
        return replace(operator, homogeneous=lambda call: (_product(call, homogeneous),))
    if callable(homogeneous):
        return replace(operator, homogeneous=homogeneous)
    return replace(operator, homogeneous=whole if homogeneous else no_terms)


def _product(call: Call, powers: Mapping[str, float]) -> Term:
    found: dict[Operand, float] = {}
    for name, power in powers.items():
        factor = call.value(name) or name
        found[factor] = found.get(factor, 0.0) + power
    return found


def _zero_rule(zero: Zero) -> Callable[[Zeroing], State]:
    """The answer where no more than `zero` is known.

    Equations say that positions are computed one by one only if each output has the leaf once and
    no operand has it twice; all else is a sum of some kind.
    """
    if not isinstance(zero, State):
        return zero

    def zeros(call: Zeroing) -> State:
        carriers = [v for v in call.tensors if call.carries(v)]
        vanish = all(call.state(v) is State.ZERO for v in carriers)
        apart = all(_times(call, v.name) == 1 for v in (*carriers, *call.node.outputs))
        if not apart and not (vanish and zero is State.ZERO):
            call.report(Guarantee.APPROXIMATE, "how it is reduced is not stated")
        return max(zero, *(call.state(v) for v in call.tensors), State.ZERO)

    return zeros


def _times(call: Zeroing, name: str) -> int:
    """In how many dimensions of a value the leaf occurs."""
    return sum(call.within(axis) for axis in call.types[name])


def _resize_rule(resize: Resize) -> Callable[[Sizing], Resized]:
    def resized(call: Sizing) -> Resized:
        new = resize(call)
        return new if isinstance(new, Resized) else Resized(new)

    return resized
