"""Reading a `.pt2` file without running anything that is stored in it.

`torch.export.load` unpickles what an archive marks as pickled, opens shared libraries it holds,
evaluates size expressions as Python, writes names into Python source, imports modules that name
types, and resolves any function below `torch` as an operator. So the archive is read here, all of
it is checked, and only what passed is given to torch: plain tensors, and a program of operators
that are known to compute and to do nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import fx, nn
from torch._export.serde.serialize import SerializedArtifact, deserialize

from autoprune.errors import TraceError, first_line
from autoprune.frameworks.torch.pt2.examples import read_example
from autoprune.frameworks.torch.pt2.program import checked_program
from autoprune.frameworks.torch.pt2.records import Records, Refused, open_records
from autoprune.frameworks.torch.pt2.tensors import read_tensors
from autoprune.frameworks.torch.quiet import quiet
from autoprune.ir.files import open_file

_MODEL = "models/model.json"


def load_pt2(path: Path) -> tuple[nn.Module, Any]:
    """The module and the example inputs in a file that `torch.export.save` wrote.

    Returns:
        The module, and its example inputs as a tuple or a dict, or None if the file has none.

    Raises:
        TraceError: if the file is no exported program, or holds anything but plain tensors and
            operators that autoprune knows.
    """
    try:
        file = open_file(path)
    except OSError as error:
        reason = error.strerror or error
        raise TraceError(f"the file cannot be read: {reason}", where=str(path)) from error
    try:
        with file:
            program = _read(file)
        exported = program.module(check_guards=False)
        module = fx.GraphModule(exported, exported.graph)
    except Refused as error:
        raise TraceError(
            f"the file holds {error}, which is never loaded",
            where=str(path),
            hint="export the model with torch.export.save, or pass it as package.module:callable; "
            "an operator of your own is loaded once it has a rule (ap.rule)",
        ) from error
    except Exception as error:
        line = first_line(error).split(". ")[0]
        raise TraceError(
            f"this is not an exported program: {line}",
            where=str(path),
            hint="write it with torch.export.save(torch.export.export(model, inputs), path)",
        ) from error
    if _trains(exported.graph):
        raise TraceError(
            "the program was exported in training mode",
            where=str(path),
            hint="call model.eval() before torch.export.export",
        )
    return module.eval(), _example(program)


def _read(file: BinaryIO) -> torch.export.ExportedProgram:
    with open_records(file) as records:
        _check_members(records)
        artifact = SerializedArtifact(
            checked_program(records.read(_MODEL)),
            read_tensors(records, "data/weights", "weight_"),  # type: ignore[arg-type]
            read_tensors(records, "data/constants", "tensor_"),  # type: ignore[arg-type]
            read_example(records.read("data/sample_inputs/model.pt")),
        )
    with quiet("torch"):
        return deserialize(artifact)


def _check_members(records: Records) -> None:
    if records.read("archive_format") != b"pt2":
        raise ValueError("it has another format")
    if records.names("data/aotinductor/"):
        raise Refused("compiled code")
    tensors = (*records.names("data/weights/"), *records.names("data/constants/"))
    if any(name.endswith(".pt") for name in tensors):
        raise Refused("pickled tensors")
    if records.names("models/") != [_MODEL]:
        raise ValueError("it holds no model, or several")


def _example(program: torch.export.ExportedProgram) -> Any:
    if program.example_inputs is None:
        return None
    args, kwargs = program.example_inputs
    if args and kwargs:
        names = [n for n in program.graph_signature.user_inputs if isinstance(n, str)]
        return dict(zip(names, args, strict=False)) | kwargs
    return kwargs or tuple(args)


def _trains(graph: fx.Graph) -> bool:
    """Whether any operator, such as dropout, was told that this is training."""
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload):
            parameters = node.target._schema.arguments
            given = dict(zip((p.name for p in parameters), node.args, strict=False)) | node.kwargs
            if any(given.get(name) is True for name in ("train", "training")):
                return True
    return False
