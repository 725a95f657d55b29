"""A compiled network, and what became of its products."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from autoprune.ir.graph import spelled
from autoprune.passes.kernels.kernel import Kernel
from autoprune.passes.kernels.target import TARGETS, Target
from autoprune.passes.lower.artifact import Contents, write_artifact
from autoprune.passes.lower.compile_options import runs_here
from autoprune.passes.lower.source_folder import write_source

if TYPE_CHECKING:
    from autoprune.passes.lower.relax import RelaxNetwork


@dataclass(frozen=True, slots=True)
class Layer:
    """What became of a product.

    Attributes:
        name: of its node.
        outputs: number of outputs.
        inputs: number of inputs, times the taps of a convolution.
        rows: outputs of a block; 0 if it stays dense.
        stored: share of the weights that is stored.
        int8: whether it is a product of 8-bit integers.
        speedup: of the fusion region it belongs to, on sparse kernels; None if that was not
            measured.
        spread: between which speedups half of the rounds are.
        layout: how its weights are stored.
    """

    name: str
    outputs: int
    inputs: int
    rows: int = 0
    stored: float = 1.0
    int8: bool = False
    speedup: float | None = None
    spread: tuple[float, float] | None = None
    layout: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Compiled:
    """A compiled network, to be written as an artifact.

    Attributes:
        contents: what goes into the artifact.
        layers: what became of the products.
        error: largest difference from float32, relative to the largest output, if products are of
            8-bit integers and this processor runs them.
        kernels: those that sparse layers need, in their order in a library.
        targets: the processors it was compiled for, the best first.
        int8: whether 8-bit integers were asked for.
    """

    contents: Contents
    layers: tuple[Layer, ...]
    error: float | None = None
    kernels: tuple[Kernel, ...] = ()
    targets: tuple[Target, ...] = ()
    int8: bool = False

    def save(self, path: str | Path) -> str:
        """Write an artifact (`.apz`).

        Returns:
            Its digest, with which the runtime trusts the native code in it.

        Raises:
            ArtifactError: if it exceeds the limits of the format.
            OSError: if the folder does not exist or cannot be written to.
        """
        return write_artifact(path, self.contents)

    def save_source(self, folder: str | Path) -> None:
        """Write the model and the portable C source of its operators.

        Any C compiler builds the library from it, for any processor with ONNX Runtime; tiles have
        the sizes that suit the first of the targets. A README in the folder has the command.

        Args:
            folder: a path at which there is nothing, or an empty folder.

        Raises:
            TargetError: if no layer is sparse.
            OSError: if there is something at `folder`, or it cannot be written to.
        """
        target = self.targets[0]
        write_source(folder, self.contents, self.kernels, target)

    def relax(self, target: Mapping[str, Any] | None = None) -> RelaxNetwork:
        """The same network compiled whole by TVM, to be run where ONNX Runtime is not.

        This is for portability: TVM's dense kernels are not tuned, and no times are taken of it.

        Args:
            target: the processor as TVM describes it, such as `{"kind": "llvm", "mtriple":
                "aarch64-linux-gnu", "mcpu": "cortex-a72"}`; None for this one.

        Raises:
            TargetError: if TVM does not know the target, or an operator of the network.
        """
        from autoprune.passes.lower.relax import compile_relax

        if target is None:
            here = runs_here(list(TARGETS.values()))
            target = {"kind": "llvm", "mcpu": here.cpu if here else "generic"}
        return compile_relax(onnx.load_from_string(self.contents.dense), target)

    def _inputs(self) -> str:
        (feed, _), *_ = self.contents.examples
        return ", ".join(spelled(name, x.dtype.name, x.shape) for name, x in feed.items())

    def __repr__(self) -> str:
        sparse = sum(layer.rows > 0 for layer in self.layers)
        targets = ", ".join(target.name for target in self.targets)
        return (
            f"Compiled: {sparse} of {len(self.layers)} products on sparse kernels, for {targets}; "
            'print it for the layers, .save("small.apz") writes it'
        )

    def __str__(self) -> str:
        sparse = [layer for layer in self.layers if layer.rows]
        lines = [f"{len(sparse)} of {len(self.layers)} products run on sparse kernels"]
        for layer in self.layers:
            share = f"{layer.stored:.0%} of the weights stored"
            times = "" if layer.speedup is None else f"{layer.speedup:.2f}x"
            if layer.spread is not None:
                times += f" ({layer.spread[0]:.2f} to {layer.spread[1]:.2f})"
            if layer.rows:
                what = f"{'8-bit ' * layer.int8}{layer.layout}, {share}" + f", {times}" * bool(
                    times
                )
            elif layer.speedup is not None:
                what = f"dense: sparse kernels would be {times} as fast"
            else:
                continue
            lines.append(f"  {layer.name}: {layer.outputs} x {layer.inputs}, {what}")
        if any(layer.speedup is not None for layer in self.layers):
            lines.append(
                "times as fast as dense on this processor, one thread, shortest runs (half of the "
                f"rounds in brackets), on {self._inputs()}"
            )
        in_floats = sum(not layer.int8 for layer in sparse)
        if self.int8 and in_floats:
            lines.append(
                f"{in_floats} of them in float32: 8 bits take zeros in blocks of 4 inputs, as of "
                "the format 'block 16x4', and linear layers whose inputs are a multiple of 16"
            )
        if self.error is not None:
            lines.append(f"outputs differ from float32 by {self.error:.1%} of the largest")
        return "\n".join(lines)
