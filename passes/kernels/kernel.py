"""What a kernel is: a way to compute sparse products, on every processor or on GPUs.

A kernel is a frozen dataclass derived from `Kernel`. Its class says which products it computes, an
object of it what the code depends on whatever the processor: the outputs of a block, an activation,
whether something is added. `registry.define` makes it known; everything else asks the registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from autoprune.passes.kernels.geometry import POINT, Geometry
from autoprune.passes.kernels.target import Target
from autoprune.passes.sparsify.layout import Array

Device = Literal["cpu", "cuda"]
"""What kernels are for."""

Precision = Literal["float32", "int8", "bytes"]
"""What is multiplied: floats, floats that the operator rounds to 8 bits, or activations that come
in bytes and leave in bytes, whose ranges are known."""


@dataclass(frozen=True, slots=True)
class Step:
    """A byte stands for (byte - zero) * size.

    Attributes:
        size: of a step.
        zero: the byte that stands for nothing.
    """

    size: float
    zero: int


Steps = Mapping[str, Step]
"""By the names of values."""


@dataclass(frozen=True, eq=False)
class Product:
    """activation(W x + bias + added).

    Attributes:
        rowwise: whether the inputs run along the last axis of x, rather than the second.
        x: name of the activations.
        output: name of the result.
        weight: shape [outputs, inputs * taps], or [channels, taps] if depthwise.
        bias: shape [outputs].
        added: name of a value of the output's shape that is added, if any.
        activation: name of what is applied last, or empty.
        geometry: of a convolution; a single tap of a linear layer.
        depthwise: whether it is a convolution of every channel by itself.
    """

    rowwise: bool
    x: str
    output: str
    weight: Array
    bias: Array
    added: str | None = None
    activation: str = ""
    geometry: Geometry = POINT
    depthwise: bool = False


class Function(Protocol):
    """A function that TVM compiles; `Lowered` tells libraries apart by its `repr`."""

    @property
    def name(self) -> str:
        """Of the function."""

    def primitive(self) -> Any:
        """The function in TVM's language."""


class Tile(Function, Protocol):
    """A function that computes a tile of a product."""

    @property
    def tile(self) -> int:
        """Positions of a tile."""


@dataclass(frozen=True)
class Code:
    """An operator of a kernel's own, in C: see c/operators.h.

    Attributes:
        run: the name of its function, `OrtStatus *run(const Inputs *inputs)`.
        inputs: what it takes, by the names in operators.h, such as `("X", "VALUES", "BIAS")`.
        text: a C file that has the function.
    """

    run: str
    inputs: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Lowered:
    """A kernel for one processor: the same product for tiles of falling size, the last of 1.

    Attributes:
        rows: outputs of a block.
        tiles: the products; none if the operator is written in C.
        quantize: what rounds their activations to 8 bits, if they take such.
        largest: what finds the scale of an image before that, if it has one.
        unpack: what makes floats of the bytes that products make, if they make such.
        offset: what is added to bytes with a sign, to be stored.
        operator: its name and its code, if it is not one of c/operators.c.
    """

    rows: int
    tiles: tuple[Tile, ...]
    quantize: Function | None = None
    largest: Function | None = None
    unpack: Function | None = None
    offset: int = 0
    operator: tuple[str, Code] | None = None

    @property
    def functions(self) -> Iterator[Function]:
        """All of them."""
        yield from self.tiles
        yield from (f for f in (self.quantize, self.largest, self.unpack) if f is not None)


@dataclass(frozen=True)
class Candidate:
    """A kernel that can compute a product.

    Attributes:
        kernel: which one.
        stored: share of the weights that it stores.
        cost: its time by that of the dense product, roughly; 1 where only what is beside the
            product makes it worthwhile.
    """

    kernel: Kernel
    stored: float = 1.0
    cost: float = 1.0


class Kernel(ABC):
    """A way to compute products; `registry` says how to make one known.

    Attributes:
        name: of the kernel.
        device: what it is for; folder of the kernels.
        operator: of the domain `autoprune` in ONNX.
        precision: what is multiplied.
        code: of the operator, if it is not one of c/operators.c.
        slot: attribute of the operator that says where the kernel is in a library.
        rowwise: whether activations are [positions, inputs], as in linear layers.
        several: whether the operator can have several outputs, one below the other.
        padded: whether it takes activations with a gap between rows, and leaves it there.
        with_depthwise: an operator that runs a depthwise convolution after it, if there is one.
    """

    name: ClassVar[str]
    device: ClassVar[Device] = "cpu"
    operator: ClassVar[str] = ""
    precision: ClassVar[Precision] = "float32"
    code: ClassVar[Code | None] = None
    slot: ClassVar[str] = "kernel"
    rowwise: ClassVar[bool] = False
    several: ClassVar[bool] = False
    padded: ClassVar[bool] = False
    with_depthwise: ClassVar[str] = ""

    rows: int
    """Outputs of a block."""

    @property
    def layout(self) -> str:
        """How weights are stored, for messages."""
        return f"blocks of {self.rows} outputs" if self.rows > 1 else "single weights"

    @classmethod
    @abstractmethod
    def matches(cls, product: Product, positions: int | None = None) -> Iterable[Candidate]:
        """The kernels of this class for a product, the largest blocks first; none for others.

        Args:
            product: the product.
            positions: that it is computed at, if that is known.
        """

    @abstractmethod
    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        """The constants of the operator, in the order in which it takes them after x.

        Args:
            product: one that matches.
            steps: what bytes stand for, where activations come in bytes.
        """

    def lower(self, target: Target) -> Lowered:
        """The kernel for a processor; without functions of TVM's, unless a class says otherwise.

        Raises:
            TargetError: if the processor lacks an instruction.
        """
        operator = None if self.code is None else (self.operator, self.code)
        return Lowered(self.rows, (), operator=operator)

    def attributes(self, product: Product, steps: Steps) -> dict[str, int]:
        """Attributes of the operator, beside its place in a library."""
        # The byte of x that stands for nothing.
        zero = {"zero": steps[product.x].zero} if self.precision == "bytes" else {}
        return {} if self.rowwise else zero | product.geometry.attributes()

    def exactly(self, positions: int | None) -> Tile | None:
        """A function whose tile divides the positions, for TVM to call it alone; None if it cannot.

        Args:
            positions: their number, or None if it varies.
        """
        return None
