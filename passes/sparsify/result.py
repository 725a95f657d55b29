"""A network with zeros in its weights: the model, its masks, and what became sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from autoprune.errors import AutopruneError
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.torch.export_onnx import export_onnx, feed_of, save_onnx
from autoprune.frameworks.torch.files import write_pt2, write_safetensors
from autoprune.frameworks.torch.objects import Inputs
from autoprune.frameworks.torch.trace import as_dynamic_shapes
from autoprune.ir.plan import Plan
from autoprune.passes.pruning.result import Saving
from autoprune.report.sparsity import SparsityReport


@dataclass(frozen=True, eq=False)
class SparseResult(Saving):
    """A network with zeros in its weights.

    `save` writes `.onnx` (exported, and compared with torch in ONNX Runtime before it is written)
    and `.pt2` if there are example inputs, and `.safetensors` (the weights, zeros included; with
    the plan, for `autoprune.load`, if the network was pruned before).

    Attributes:
        model: the network; a module of its own.
        masks: by name of a parameter and in its shape, where weights are kept.
        report: what became sparse; prints as a table.
    """

    model: nn.Module = field(repr=False)
    masks: Mapping[str, Tensor] = field(repr=False)
    report: SparsityReport
    _inputs: Inputs | None = field(default=None, repr=False)
    _dynamic_shapes: Any = field(default=None, repr=False)
    _plan: Plan | None = field(default=None, repr=False)

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return {
            ".onnx": self._save_onnx,
            ".pt2": self._save_pt2,
            ".safetensors": partial(write_safetensors, self.model, plan=self._plan),
        }

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def write_fixed(self, path: Path) -> None:
        """See `Saving.write_fixed`."""
        inputs = self._given(path)
        export_onnx(self.model, inputs, path, dynamic_shapes=self._shapes(inputs))

    def feed(self, session: Any) -> Feed:
        """The example inputs, by the names of the inputs of a session of the saved model."""
        return feed_of(session, self._given(None))

    def example(self) -> tuple[Any, Any]:
        """The example inputs, and the dynamic shapes that were asked for."""
        return self._inputs, self._dynamic_shapes

    @property
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from, or nothing."""
        return "" if self._plan is None else self._plan.origin

    def _save_onnx(self, path: Path) -> str:
        inputs = self._given(path)
        return save_onnx(self.model, inputs, path, self._shapes(inputs))

    def _save_pt2(self, path: Path) -> str:
        inputs = self._given(path)
        return write_pt2(self.model, inputs, path, self._shapes(inputs))

    def _shapes(self, inputs: Inputs) -> Any:
        return as_dynamic_shapes(self.model, inputs, self._dynamic_shapes)

    def _given(self, path: Path | None) -> Inputs:
        if self._inputs is None:
            raise AutopruneError(
                "the network can only be exported on example inputs",
                where=None if path is None else str(path),
                hint="give them when you make it sparse, or save as .safetensors",
            )
        return self._inputs
