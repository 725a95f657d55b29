"""Files of torch modules: how they are written, and how weights are read back."""

from __future__ import annotations

import io
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from autoprune.errors import AutopruneError, PlanError, first_line
from autoprune.frameworks.onnx.file import session_for
from autoprune.frameworks.onnx.sessions import Feed
from autoprune.frameworks.onnx.timing import Timed
from autoprune.frameworks.torch.batch import FixedBatch, export_any_batch
from autoprune.frameworks.torch.equality import difference, evaluating, run, tolerance
from autoprune.frameworks.torch.export_onnx import (
    checked_onnx,
    export_onnx,
    feed_of,
    write_any_batch,
)
from autoprune.frameworks.torch.objects import Inputs, plain
from autoprune.frameworks.torch.packed import export
from autoprune.frameworks.torch.trace import as_dynamic_shapes, copy_of, exportable
from autoprune.ir.files import open_file, write_atomically
from autoprune.ir.plan import Plan


@dataclass(frozen=True)
class TorchFiles:
    """See `Files`; `.onnx` and `.pt2` files need example inputs.

    Attributes:
        inputs: example inputs, or None if there are none.
        dynamic_shapes: as in `Options`.
    """

    inputs: Inputs | None
    dynamic_shapes: Any = None
    external: bool = False

    def writers(
        self, model: nn.Module, plan: Plan | None
    ) -> Mapping[str, Callable[[Path], str | None]]:
        return {
            ".onnx": partial(self._save, write_any_batch, export_onnx, model),
            ".pt2": partial(self._save, write_pt2_any_batch, write_pt2, model),
            ".safetensors": partial(write_safetensors, model, plan=plan),
        }

    def write_fixed(self, model: nn.Module, path: Path) -> None:
        inputs = self._given(path)
        export_onnx(model, inputs, path, self._shapes(model, inputs))

    def feed(self, session: Any) -> Feed:
        return feed_of(session, self._given(None))

    def example(self) -> tuple[Any, Any]:
        return self.inputs, self.dynamic_shapes

    def open(self, model: nn.Module, threads: int) -> Timed:
        inputs = self._given(None)
        session = session_for(checked_onnx(model, inputs)[0], threads)
        return session, feed_of(session, inputs)

    def _save(
        self,
        for_any_batch: Callable[[nn.Module, Inputs, Path], None],
        write: Callable[[nn.Module, Inputs, Path, Any], object],
        model: nn.Module,
        path: Path,
    ) -> str:
        """Write a model for any batch, if nothing else is asked for; or say why that is not so."""
        inputs, reason = self._given(path), ""
        if self.dynamic_shapes is None:
            try:
                for_any_batch(model, inputs, path)
                return ""
            except FixedBatch as fixed:
                reason = str(fixed)
        write(model, inputs, path, self._shapes(model, inputs))
        return reason

    def _shapes(self, model: nn.Module, inputs: Inputs) -> Any:
        return as_dynamic_shapes(model, inputs, self.dynamic_shapes)

    def _given(self, path: Path | None) -> Inputs:
        if self.inputs is None:
            raise AutopruneError(
                "the network can only be exported on example inputs",
                where=None if path is None else str(path),
                hint="give them when you make it sparse, or save as .safetensors",
            )
        return self.inputs


def write_pt2(model: nn.Module, inputs: Inputs, path: Path, dynamic_shapes: Any = None) -> None:
    """Write a model as a `torch.export` program.

    Raises:
        AutopruneError: if it cannot be exported; nothing is written then.
    """
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


def _write_program(program: torch.export.ExportedProgram, path: Path) -> None:
    # A file that cannot be written ends the process in torch's writer of archives.
    archive = io.BytesIO()
    torch.export.save(program, archive)
    write_atomically(path, archive.getvalue())


def write_pt2_any_batch(model: nn.Module, inputs: Inputs, path: Path) -> None:
    """Write a program that computes what a model does on several batches.

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
    _write_program(program, path)


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


def fill(model: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Load the weights of a file into a model.

    Args:
        model: the model, of the shape that the plan in the file makes.
        tensors: by name.
        where: the file.

    Raises:
        PlanError: if they are of other names, shapes or kinds.
    """
    own = model.state_dict()
    for name, tensor in tensors.items():
        if name in own and _kind(own[name]) != _kind(tensor):
            raise PlanError(
                f"the weights do not fit: {name} is of {tensor.dtype}, and in the model of "
                f"{own[name].dtype}",
                where=where,
            )
    given = OrderedDict(tensors)
    # Modules ask for the version of their state, which the file does not hold.
    given._metadata = own._metadata  # type: ignore[attr-defined]
    try:
        missing, unexpected = model.load_state_dict(given, strict=False)
    except RuntimeError as error:
        raise PlanError(
            f"the weights do not fit: {str(error).splitlines()[-1].strip()}", where=where
        ) from error
    own = model.state_dict()
    loaded = {own[name].data_ptr() for name in tensors if name not in unexpected}
    lost = [name for name in missing if own[name].data_ptr() not in loaded]
    if lost or unexpected:
        raise PlanError(
            f"the file and the model do not hold the same tensors: {(lost + unexpected)[0]}",
            where=where,
        )


def _kind(tensor: torch.Tensor) -> tuple[bool, bool, bool]:
    """What sort of numbers a tensor holds, in whatever precision."""
    return tensor.is_floating_point(), tensor.is_complex(), tensor.dtype == torch.bool


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
