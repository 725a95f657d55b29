"""The result of pruning a torch module: how to keep it, and how to read it back."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.errors import AutopruneError, PlanError, first_line
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.timing import Timed
from autoprune.frameworks.torch.batch import FixedBatch, export_any_batch
from autoprune.frameworks.torch.equality import difference, evaluating, run, tolerance
from autoprune.frameworks.torch.export_onnx import export_onnx, feed_of, open_exported, save_onnx
from autoprune.frameworks.torch.objects import Inputs, plain
from autoprune.frameworks.torch.packed import export
from autoprune.frameworks.torch.trace import copy_of, exportable
from autoprune.ir.files import open_file, write_atomically
from autoprune.ir.plan import Plan
from autoprune.passes.pruning.result import Result


@dataclass(repr=False)
class TorchResult(Result[nn.Module]):
    """What `prune` returns for a torch module: `model` is an independent trainable module.

    `save` writes `.onnx` (exported, and compared with torch in ONNX Runtime before it is
    written), `.pt2` (a `torch.export` program), `.safetensors` (the weights and the plan, for
    `autoprune.load`) or `.json` (the plan alone).
    """

    _original: nn.Module
    _inputs: Inputs
    _dynamic_shapes: Any = None

    def _writers(self) -> Mapping[str, Callable[[Path], str | None]]:
        return {
            ".onnx": self._save_onnx,
            ".pt2": self._save_pt2,
            ".safetensors": self._save_safetensors,
            ".json": self.plan.save,
        }

    def open_original(self, threads: int) -> Timed:
        """See `Result.open_original`."""
        return open_exported(self._original, self._inputs, threads)

    def open_pruned(self, threads: int) -> Timed:
        """See `Result.open_pruned`."""
        return open_exported(self.model, self._inputs, threads)

    def write_fixed(self, path: Path) -> None:
        """See `Saving.write_fixed`."""
        export_onnx(self.model, self._inputs, path, dynamic_shapes=self._dynamic_shapes)

    def feed(self, session: Any) -> Feed:
        """The example inputs by the names that an exported model has for them."""
        return feed_of(session, self._inputs)

    def _save_onnx(self, path: Path) -> str:
        return save_onnx(self.model, self._inputs, path, self._dynamic_shapes)

    def _save_pt2(self, path: Path) -> str:
        return write_pt2(self.model, self._inputs, path, self._dynamic_shapes)

    def _save_safetensors(self, path: Path) -> None:
        write_safetensors(self.model, path, self.plan)


def write_pt2(model: nn.Module, inputs: Inputs, path: Path, dynamic_shapes: Any) -> str:
    """Write a model as a `torch.export` program, if nothing else is asked for for any batch.

    Returns:
        Why its batch does not vary, or nothing.

    Raises:
        AutopruneError: if it cannot be exported; nothing is written then.
    """
    reason = ""
    if dynamic_shapes is None:
        try:
            _write_program(_any_batch(model, inputs), path)
            return ""
        except FixedBatch as fixed:
            reason = str(fixed)
    try:
        # Tracing may change what a module remembers between calls.
        work = copy_of(model)
        given, _ = exportable(work, inputs)
        with evaluating(work):
            program = export(work, given.args, given.kwargs, dynamic_shapes)
    except Exception as error:
        raise AutopruneError(
            f"torch.export failed: {first_line(error)}",
            where=str(path),
            hint="save as .safetensors, which holds the weights",
        ) from error
    _write_program(program, path)
    return reason


def _write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    # A file that cannot be written ends the process in torch's writer of archives.
    archive = io.BytesIO()
    torch.export.save(program, archive)
    write_atomically(path, archive.getvalue())


def _any_batch(model: nn.Module, inputs: Inputs) -> torch.export.ExportedProgram:
    """A program that computes what a model does on several batches.

    Raises:
        FixedBatch: if that is not to be had.
    """
    program, examples = export_any_batch(model, inputs)
    program.example_inputs = tuple(plain(inputs))
    module = program.module()
    for given, expected in examples:
        try:
            gap = difference(expected, run(module, given))
        except Exception as error:
            raise FixedBatch(f"the exported program: {first_line(error)}") from error
        if gap > tolerance(expected):
            raise FixedBatch(f"the exported program differs by {gap:.1g} on another batch")
    return program


def write_safetensors(model: nn.Module, path: Path, plan: Plan | None) -> None:
    """Write the weights of a model, and the plan that it was pruned by.

    Raises:
        AutopruneError: if that fails; nothing is written then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    seen: set[tuple[int, tuple[int, ...], int]] = set()
    for name, tensor in model.state_dict().items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.storage_offset())
        if tensor.numel() and key in seen:
            continue  # a tied name; loading the first one loads it too
        seen.add(key)
        tensors[name] = tensor.detach().contiguous()
    metadata = {} if plan is None else {"autoprune.plan": plan.to_json()}
    try:
        data = save(tensors, metadata)
    except SafetensorError as error:
        raise AutopruneError(f"safetensors failed: {error}", where=str(path)) from error
    write_atomically(path, data)


def read_safetensors(path: str | Path) -> tuple[Plan, dict[str, torch.Tensor]]:
    """The plan and the weights in a file that `Result.save` wrote.

    Raises:
        PlanError: if the file cannot be read or holds no plan.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # A pipe would be waited for.
        with open_file(path), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        missing = isinstance(error, OSError) and error.strerror
        raise PlanError(
            f"the file cannot be read: {missing or error}",
            where=str(path),
            hint=None
            if Path(path).suffix == ".safetensors"
            else 'load reads what result.save("small.safetensors") wrote',
        ) from error
    if "autoprune.plan" not in metadata:
        raise PlanError(
            "the file holds weights but no plan",
            where=str(path),
            hint='use a file written by result.save("....safetensors")',
        )
    return Plan.from_json(metadata["autoprune.plan"]), tensors
