"""What rules see of a call: its arguments, the axes around it, states, and sizes after a cut.

Each question an operator is asked comes with a view of its own: `Typing` for `axes`, `Zeroing` for
`zero`, `Sizing` for `resize`, and the plain `Call` for all else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from autoprune.errors import GraphError
from autoprune.ir import axes as ax
from autoprune.ir.axes import Axes, Axis, Leaf
from autoprune.ir.graph import Argument, Node, Value
from autoprune.ir.group import Guarantee

Shape = tuple[Axis, ...]
Types = Mapping[str, Shape]


class State(IntEnum):
    """What is known of a value at the positions of a removed unit."""

    ZERO = 0
    UNIFORM = 1
    """One number a unit, wherever else in the value it is looked at."""
    CONSTANT = 2
    """Numbers that do not depend on the graph's inputs."""
    ANY = 3
    UNDEFINED = 4
    """Infinite or not a number: not even a zero weight makes it vanish."""


# A view is made for every question about a call: dataclasses that are not frozen are made faster.
@dataclass(slots=True)
class Call:
    """A node together with the axis types of the values around it."""

    node: Node
    types: Types

    def get(self, name: str, default: Argument = None) -> Argument:
        """The argument called `name`, or `default` where it is absent or None."""
        argument = self.node.arguments.get(name)
        return default if argument is None else argument

    def value(self, name: str) -> Value | None:
        """The tensor argument called `name`, or None where it is not a tensor."""
        argument = self.node.arguments.get(name)
        return argument if isinstance(argument, Value) else None

    def tensor(self, name: str) -> Value:
        """The tensor argument called `name`.

        Raises:
            GraphError: if there is no such tensor argument.
        """
        value = self.value(name)
        if value is None:
            raise GraphError(f"argument {name} is not a tensor", where=str(self.node))
        return value

    def integer(self, name: str, default: int = 0) -> int:
        """The integer argument called `name`; a symbolic size counts by its example value."""
        argument = self.get(name, default)
        if isinstance(argument, Value):
            argument = argument.hint
        if not isinstance(argument, int):
            raise GraphError(f"argument {name} is not an integer", where=str(self.node))
        return argument

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The integer-list argument called `name`; a lone integer is a list of one."""
        argument = self.get(name, default)
        parts = argument if isinstance(argument, tuple) else (argument,)
        numbers = tuple(p.hint if isinstance(p, Value) else p for p in parts)
        if not all(isinstance(n, int) for n in numbers):
            raise GraphError(f"argument {name} is not a list of integers", where=str(self.node))
        return tuple(int(n) for n in numbers if isinstance(n, int))

    def axes_of(self, value: Value | str) -> Shape:
        """Axis types of a value, or of the tensor argument of that name."""
        return self.types[self.tensor(value).name if isinstance(value, str) else value.name]

    @property
    def output(self) -> Value:
        """The first output."""
        return self.node.outputs[0]

    @property
    def tensors(self) -> tuple[Value, ...]:
        """Every tensor input (not symbolic sizes)."""
        return self.node.tensors


@dataclass(slots=True)
class Typing(Call):
    """The view of a call that an `axes` rule gets: it may state equations and pin."""

    axes: Axes
    unread: list[Axis] = field(default_factory=list)
    """Parts of axes that calls leave out."""

    def axes_of(self, value: Value | str) -> Shape:
        name = self.tensor(value).name if isinstance(value, str) else value.name
        return self.axes.resolve_all(self.types[name])

    def same(self, a: Axis, b: Axis) -> Axis:
        """State that two axes are the same; returns that axis."""
        if a is not b:
            self.axes.unify(a, b)
        return self.axes.resolve(a)

    def align(self, shape: Sequence[Axis], other: Sequence[Axis]) -> Shape:
        """State that these axes are the same, one by one; returns them."""
        return tuple(self.same(a, b) for a, b in zip(shape, other, strict=True))

    def pin(self, axis: Axis, reason: str) -> None:
        """State that no position of `axis` may be removed."""
        self.axes.pin(axis, reason)

    def fixed(self, size: int, reason: str) -> Axis:
        """A new axis no position of which may be removed."""
        return self.axes.pinned_leaf(size, reason)

    def is_fixed(self, axis: Axis) -> bool:
        """Whether nothing of `axis` could be removed anyway."""
        return self.axes.is_pinned(axis)


@dataclass(slots=True)
class Zeroing(Call):
    """The view of a call that a `zero` rule gets, for the removed units of one leaf."""

    uid: int
    states: Mapping[str, State]
    """State of each value that carries the leaf, by value name."""
    constants: frozenset[str]
    """Values that do not depend on the graph's inputs."""
    report: Callable[[Guarantee, str], None]
    """Called when removing units here is not covered by zero-invariance."""
    spare: Callable[[Value], None] = lambda value: None
    """Called for a parameter in which the unit need not be zero."""
    owned: frozenset[str] = frozenset()
    """Trained parameters that no other call reads."""

    def carries(self, value: Value | None, dim: int | None = None) -> bool:
        """Whether the leaf occurs in `value` (in dimension `dim`)."""
        if value is None:
            return False
        if dim is None:
            return value.name in self.states
        return self.within(self.types[value.name][dim])

    def within(self, axis: Axis) -> bool:
        """Whether the leaf occurs in `axis`."""
        return axis.uid == self.uid if isinstance(axis, Leaf) else self.uid in axis.uids

    def state(self, argument: Argument) -> State:
        """What is known of an argument at the removed positions."""
        if isinstance(argument, Value):
            known = self.states.get(argument.name)
            if known is not None:
                return known
            return State.CONSTANT if argument.name in self.constants else State.ANY
        if argument is None or argument == 0:
            return State.ZERO
        return State.UNIFORM

    def summed(self, values: Sequence[Value], bias: Value | None = None) -> None:
        """Report what summing a product of `values` over the removed positions means.

        The sum misses nothing if an activation is zero there, or if a weight is: the slices of
        the weight go with the unit. A constant times a weight can go into `bias`, if there is one.
        """
        if any(self.state(v) is State.UNDEFINED for v in values):
            self.report(Guarantee.APPROXIMATE, "infinities are summed")
            return
        zero = [v for v in values if self.state(v) is State.ZERO]
        if any(v.name not in self.constants for v in zero):
            return
        rest = [self.state(v) for v in values if v not in zero]
        layer = [*zero, *([] if bias is None else [bias])]
        if len(layer) == 2 and rest == [State.UNIFORM] and {v.name for v in layer} <= self.owned:
            self.report(Guarantee.FOLDED, "a constant goes into a bias")
        elif zero:
            self.report(Guarantee.MASKED, "activations that are not zero are read")
        else:
            self.report(Guarantee.APPROXIMATE, "values that are not zero are summed")


@dataclass(slots=True)
class Sizing(Call):
    """The view of a call that a `resize` rule gets: axis sizes after the cut."""

    sizes: Mapping[int, int]
    mentioned: list[Axis] = field(default_factory=list)
    """The axes whose sizes were asked for: those that the call's arguments spell out."""

    def size(self, axis: Axis) -> int:
        """Size of `axis` after the cut."""
        self.mentioned.append(axis)
        return ax.size(axis, self.sizes)

    def before(self, axis: Axis, at: int) -> int:
        """How many of the first `at` positions of `axis` stay."""
        if self.size(axis) == axis.size:
            return at
        return self.size(ax.split_at(axis, at)[0])

    def resized(self, name: str, axes: Sequence[Axis]) -> Argument:
        """Integer-list argument `name`, whose entry `i` is the size of `axes[i]`, after the cut.

        Entries such as -1, which do not spell out a size, stay.
        """
        argument = self.node.arguments[name]
        entries = argument if isinstance(argument, tuple) else (argument,)
        new = tuple(self.scaled(e, axis) for e, axis in zip(entries, axes, strict=True))
        return new if isinstance(argument, tuple) else new[0]

    def scaled(self, entry: Argument, axis: Axis) -> Argument:
        """One entry of a list of sizes after the cut of the axis it is the size of."""
        new = self.size(axis)
        if isinstance(entry, Value) and new != axis.size:
            return Scaled(entry, new, axis.size)  # type: ignore[return-value]
        return new if entry == axis.size else entry


@dataclass(frozen=True, slots=True)
class Scaled:
    """A symbolic size that becomes `size * numerator // denominator` after the cut."""

    size: Value
    numerator: int
    denominator: int

    def __str__(self) -> str:
        return f"{self.size} * {self.numerator} // {self.denominator}"


@dataclass(frozen=True, slots=True)
class Resized:
    """A call after the cut.

    Attributes:
        arguments: new values of the arguments that change.
        op: the operator that takes over where the call needs another one, or None.
        scale: factor by which the output is to be multiplied so that cutting equals zeroing.
        share: where a norm takes mean and variance over units that are cut, the share of its
            positions that stay; the removed ones count as zeros.
    """

    arguments: Mapping[str, Argument] = field(default_factory=dict)
    op: str | None = None
    scale: float = 1.0
    share: float = 1.0

    @property
    def changes(self) -> bool:
        """Whether the call is not the one it was."""
        return bool(self.arguments) or self.op is not None or (self.scale, self.share) != (1.0, 1.0)
