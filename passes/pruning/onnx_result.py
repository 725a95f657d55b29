"""The result of pruning an ONNX model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from autoprune.frameworks.onnx.file import OnnxFile, session_for, write_onnx
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.timing import Timed
from autoprune.passes.pruning.result import Result


@dataclass(repr=False)
class OnnxResult(Result[onnx.ModelProto]):
    """What `prune` returns for an ONNX model: `model` is a ModelProto.

    `save` writes `.onnx`, with the tensors in a file `.onnx.data` beside it if that is how the
    model was kept or if it needs more than 2 GB, or `.json` (the plan alone).
    """

    _file: OnnxFile
    _feed: Feed

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return {".onnx": self._save_onnx, ".json": self.plan.save}

    def _save_onnx(self, path: Path) -> None:
        write_onnx(self.model, path, external=self._file.external)

    def write_fixed(self, path: Path) -> None:
        """See `Saving.write_fixed`."""
        self._save_onnx(path)

    def feed(self, session: Any) -> Feed:
        """The example inputs by name."""
        return self._feed

    def open_original(self, threads: int) -> Timed:
        """See `Result.open_original`."""
        return session_for(self._file.model, threads), self._feed

    def open_pruned(self, threads: int) -> Timed:
        """See `Result.open_pruned`."""
        return session_for(self.model, threads), self._feed
