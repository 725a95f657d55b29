"""Result: the pruned model, how it came about, and how to keep it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.backends.equality import evaluating
from autoprune.backends.onnx import export_onnx, measure_latency
from autoprune.errors import AutopruneError, PlanError
from autoprune.frontends.torch import Inputs
from autoprune.ir.files import replacing
from autoprune.ir.plan import Plan
from autoprune.report import Report


@dataclass
class Result:
    """What `prune` returns.

    Attributes:
        model: the pruned network, an independent trainable module.
        plan: which units of which groups stay.
        report: costs, groups, pinned axes; prints as a table.
    """

    model: nn.Module
    plan: Plan
    report: Report
    _original: nn.Module = field(repr=False)
    _inputs: Inputs = field(repr=False)
    _dynamic_shapes: Any = field(default=None, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write the pruned network; the suffix chooses the format.

        `.onnx` is exported and compared with torch in ONNX Runtime before it is written; `.pt2`
        is a `torch.export` program; `.safetensors` holds the weights and the plan, for
        `autoprune.load`; `.json` is the plan alone.

        Returns:
            The path written.

        Raises:
            AutopruneError: if the suffix is unknown, the path cannot be written, or the export
                fails; an existing file is left as it was.
        """
        target = Path(path)
        writers: dict[str, Callable[[Path], object]] = {
            ".onnx": self._save_onnx,
            ".pt2": self._save_pt2,
            ".safetensors": self._save_safetensors,
            ".json": self.plan.save,
        }
        if target.suffix not in writers:
            raise AutopruneError(
                f"cannot save as {target.suffix or 'a file without suffix'!r}",
                where=str(target),
                hint=f"use one of {', '.join(writers)}",
            )
        try:
            writers[target.suffix](target)
        except OSError as error:
            raise AutopruneError(
                f"the file cannot be written: {error.strerror or error}",
                where=str(target),
                hint="check that the folder exists and may be written to",
            ) from error
        return target

    def measure(
        self,
        *,
        threads: int = 1,
        seconds: float = 2.0,
        progress: Callable[[str], None] = lambda _: None,
    ) -> Report:
        """Measure latency before and after in ONNX Runtime and add it to the report.

        Args:
            threads: threads ONNX Runtime may use.
            seconds: how long to measure.
            progress: called with what is being done.
        """
        latency = measure_latency(
            copy.deepcopy(self._original), self.model, self._inputs,
            threads=threads, seconds=seconds,
            progress=progress,
        )  # fmt: skip
        self.report = dataclasses.replace(self.report, latency=latency)
        return self.report

    def _save_onnx(self, path: Path) -> None:
        export_onnx(self.model, self._inputs, path, dynamic_shapes=self._dynamic_shapes)

    def _save_pt2(self, path: Path) -> None:
        args, kwargs = self._inputs
        try:
            with evaluating(self.model):
                program = torch.export.export(
                    self.model, args, kwargs, dynamic_shapes=self._dynamic_shapes, strict=False
                )
        except Exception as error:
            raise AutopruneError(
                f"torch.export failed: {str(error).splitlines()[0]}",
                where=str(path),
                hint="save as .safetensors, which holds the weights and the plan",
            ) from error
        with replacing(path) as temporary:
            torch.export.save(program, temporary)

    def _save_safetensors(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        tensors: dict[str, torch.Tensor] = {}
        seen: set[tuple[int, tuple[int, ...], int]] = set()
        for name, tensor in self.model.state_dict().items():
            key = (tensor.data_ptr(), tuple(tensor.shape), tensor.storage_offset())
            if tensor.numel() and key in seen:
                continue  # a tied name; loading the first one loads it too
            seen.add(key)
            tensors[name] = tensor.detach().contiguous()
        metadata = {"autoprune.plan": self.plan.to_json()}
        with replacing(path) as temporary:
            try:
                save_file(tensors, temporary, metadata=metadata)
            except SafetensorError as error:
                raise AutopruneError(f"safetensors failed: {error}", where=str(path)) from error


def read_safetensors(path: str | Path) -> tuple[Plan, dict[str, torch.Tensor]]:
    """The plan and the weights in a file that `Result.save` wrote.

    Raises:
        PlanError: if the file cannot be read or holds no plan.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise PlanError(f"the file cannot be read: {error}", where=str(path)) from error
    if "autoprune.plan" not in metadata:
        raise PlanError(
            "the file holds weights but no plan",
            where=str(path),
            hint='use a file written by result.save("....safetensors")',
        )
    return Plan.from_json(metadata["autoprune.plan"]), tensors
