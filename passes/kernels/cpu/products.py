"""What the functions of sparse products share.

Weights [outputs, inputs] are stored by blocks of `rows` outputs at one input each: for every block
row the inputs that occur in it (`index`, from `offsets[o]` to `offsets[o + 1]`) and for each of
these `rows` values. All sizes are symbolic and weights are arguments, so that one function serves
every layer of a network.

Two loop orders, after what runs along the vectors of the processor:

* `spatial`: activations are [inputs, positions], as in a convolution of an NCHW tensor. A tile of
  positions is a vector, and every weight is used for a whole tile. An input is given by where its
  positions begin, so that the taps of a larger convolution are inputs like any other: the same
  padded plane, begun elsewhere.
* `rowwise`: activations are [positions, inputs], as in a linear layer. A block of outputs is a
  vector, and every activation is used for a whole block.

A tile is accumulated in registers; its accumulators take less than 1024 bytes, or TVM would put
them into memory.

The arguments of products are activations, values [blocks, rows], index [blocks],
offsets [block rows + 1], bias [block rows, rows], a tensor to add (the output itself where
there is none), the output, the first position and the number of tiles from there on, the first
block row, and the one after the last. Activations of `spatial` are flat, and its index says where
the positions of an input begin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script import tirx as T

from autoprune.passes.kernels.activations import ACTIVATIONS, check_activation
from autoprune.passes.kernels.encoding import floats
from autoprune.passes.kernels.kernel import Candidate, Kernel, Product, Steps
from autoprune.passes.kernels.tiles import ACCUMULATORS
from autoprune.passes.sparsify.layout import Array


@dataclass(frozen=True)
class BlockKernel(Kernel):
    """A kernel of weights in blocks.

    Attributes:
        rows: outputs of a block.
        activation: name of what is applied last.
        residual: whether a tensor in the shape of the output is added before that.
    """

    rows: int
    activation: str = ""
    residual: bool = False

    @classmethod
    def offer(cls, product: Product, stored: float, *rows: int, factor: float = 1.0) -> Candidate:
        """The kernel for a product, whose cost is the share that it stores times a factor."""
        made: Any = cls  # some have no rows to choose
        kernel = made(*rows, activation=product.activation, residual=product.added is not None)
        return Candidate(kernel, stored, factor * stored)

    def encode(self, product: Product, steps: Steps) -> dict[str, Array]:
        return floats(product, self.rows)


def suffix(kernel: Any) -> str:
    """The activation and the residual of a kernel in the name of its function."""
    return f"{'_' + kernel.activation if kernel.activation else ''}{'_add' * kernel.residual}"


def check_size(kernel: Any, elements: int) -> None:
    """Check the activation of a kernel, and that its accumulators fit into registers.

    Raises:
        ValueError: if they do not, or there is no such activation.
    """
    check_activation(kernel.activation)
    if 4 * elements >= ACCUMULATORS:
        raise ValueError(f"{kernel} needs {4 * elements} bytes of accumulators")


def finished(kernel: Any, value: Any, added: Any, *place: Any) -> Any:
    """What a kernel stores at a place, of a product with its bias."""
    rest = added[place] if kernel.residual else T.float32(0)
    return ACTIVATIONS[kernel.activation](value + rest)


def weights_of(
    rows: int, values: Any, index: Any, offsets: Any, bias: Any, *integers: Any
) -> tuple[Any, ...]:
    """The buffers of weights that are stored by blocks, for the function that is being written.

    Args:
        rows: outputs of a block.
        values: handle of the values, which are bytes if there are `integers`.
        index: handle of the inputs of blocks.
        offsets: handle of where block rows begin.
        bias: handle of the bias.
        integers: handles of the scales of outputs and of the sums of their weights.

    Returns:
        A buffer for each handle.
    """
    blocks, block_rows, ends = (
        tirx.Var(name, "int32") for name in ("blocks", "block_rows", "ends")
    )

    def buffer(handle: Any, shape: tuple[Any, ...], dtype: str) -> Any:
        return T.match_buffer(handle, shape, dtype, align=4)

    by_output = zip((bias, *integers), ("float32", "float32", "int32"), strict=False)
    return (
        buffer(values, (blocks, rows), "int32" if integers else "float32"),
        buffer(index, (blocks,), "int32"),
        buffer(offsets, (ends,), "int32"),
        *(buffer(handle, (block_rows, rows), dtype) for handle, dtype in by_output),
    )
