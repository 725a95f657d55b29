"""An ONNX model with zeros in its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from autoprune.frameworks.onnx.file import write_onnx
from autoprune.frameworks.onnx.run import run_once
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.passes.pruning.result import Saving
from autoprune.passes.sparsify.layout import Mask
from autoprune.report.sparsity import SparsityReport


@dataclass(frozen=True, eq=False)
class SparseOnnx(Saving):
    """An ONNX model with zeros in its weights.

    `save` writes `.onnx`, with the tensors in a file `.onnx.data` beside it if that is how the
    model was kept or if it needs more than 2 GB.

    Attributes:
        model: the model; but for the values of the sparse tensors, that which was given.
        masks: by name of a tensor and in its shape, where weights are kept.
        report: what became sparse; prints as a table.
    """

    model: onnx.ModelProto = field(repr=False)
    masks: Mapping[str, Mask] = field(repr=False)
    report: SparsityReport
    _example: Any = field(default=None, repr=False)
    _external: bool = field(default=False, repr=False)
    _origin: str = field(default="", repr=False)

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return {".onnx": self.write_fixed}

    def _repr_html_(self) -> str:
        return self.report._repr_html_()

    def write_fixed(self, path: Path) -> None:
        """See `Saving.write_fixed`."""
        write_onnx(self.model, path, external=self._external)

    def feed(self, session: Any) -> Feed:
        """The example inputs by name; made up if there are none."""
        return run_once(self.model, self._example)[0]

    def example(self) -> tuple[Any, Any]:
        """The example inputs, and that there are no dynamic shapes."""
        return self._example, None

    @property
    def origin(self) -> str:
        """Digest of the graph that the model was pruned from, or nothing."""
        return self._origin
