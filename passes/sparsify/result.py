"""A network with zeros in its weights: the model, its masks, and what became sparse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

from autoprune.frameworks.network import Files
from autoprune.ir.plan import Plan
from autoprune.passes.pruning.result import Model, Saving
from autoprune.report.sparsity import SparsityReport


@dataclass(frozen=True, eq=False)
class SparseResult(Saving, Generic[Model]):
    """A network with zeros in its weights.

    `save` writes ONNX models as `.onnx`, with the tensors in a file `.onnx.data` beside it if that
    is how the model was kept or if it needs more than 2 GB. Of modules it writes `.onnx` (exported,
    and compared with torch in ONNX Runtime before it is written) and `.pt2` if there are example
    inputs, and `.safetensors` (the weights, zeros included; with the plan, for `autoprune.load`, if
    the network was pruned before).

    Attributes:
        model: the network; a module of its own, or an ONNX model which, but for the values of the
            sparse tensors, is that which was given.
        masks: by name of a parameter and in its shape, where weights are kept; tensors of torch, or
            arrays if it is an ONNX model.
        report: what became sparse; prints as a table.
    """

    model: Model = field(repr=False)
    masks: Mapping[str, Any] = field(repr=False)
    report: SparsityReport
    _files: Files = field(repr=False)
    _plan: Plan | None = field(default=None, repr=False)
    _origin: str = field(default="", repr=False)

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return self._files.writers(self.model, self._plan)

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    @property
    def origin(self) -> str:
        """Digest of the graph that the network was pruned from, or nothing."""
        return self._origin if self._plan is None else self._plan.origin
