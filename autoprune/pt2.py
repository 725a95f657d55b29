"""Reading a `.pt2` file without running anything that is stored in it.

`torch.export.load` unpickles what an archive marks as pickled, opens shared libraries it holds,
evaluates size expressions as Python, and resolves any function below `torch` as an operator. So
the archive is looked through first, and everything but plain tensors and operators is refused.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export.pt2_archive._package import PT2ArchiveReader

from autoprune.errors import TraceError

_OPERATOR = re.compile(
    r"torch\.ops\.(?!_)\w+\.(?!__)\w+(\.(?!__)\w+)?"
    r"|torch\._?sym_\w+|_operator\.(?!__|attrgetter|methodcaller)\w+|math\.(?!_)\w+"
)
_NAME = re.compile(r"[\w.]*")
_ALLOWED_EXPRESSION = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.Load,
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip
_NEVER_CALLED = re.compile(r"_|eval$|exec$|compile$|open$|getattr$|setattr$|input$|breakpoint$")


def load_pt2(path: Path) -> tuple[nn.Module, Any]:
    """The module and the example inputs in a file that `torch.export.save` wrote.

    Returns:
        The module, and its example inputs as a tuple or a dict, or None if the file has none.

    Raises:
        TraceError: if the file is no exported program, or holds pickled objects or code.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TraceError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    try:
        refused = next(_refusals(data), None)
        if refused is None:
            with _only_tensors():
                program = torch.export.load(io.BytesIO(data))
            exported = program.module(check_guards=False)
            module = fx.GraphModule(exported, exported.graph)
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise TraceError(
            f"this is not an exported program: {line}",
            where=str(path),
            hint="write it with torch.export.save(torch.export.export(model, inputs), path)",
        ) from error
    if refused is not None:
        raise TraceError(
            f"the file holds {refused}, which is never loaded",
            where=str(path),
            hint="export the model with torch.export.save, or pass it as package.module:callable",
        )
    if _trains(exported.graph):
        raise TraceError(
            "the program was exported in training mode",
            where=str(path),
            hint="call model.eval() before torch.export.export",
        )
    return module.eval(), _example(program)


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


def _refusals(data: bytes) -> Iterator[str]:
    """What in an archive is not plain data, in words."""
    with PT2ArchiveReader(io.BytesIO(data)) as archive:
        for name in archive.get_file_names():
            folder, _, file = name.rpartition("/")
            if name.startswith("data/aotinductor/"):
                yield "compiled code"
            elif folder in ("data/weights", "data/constants") and file.endswith(".pt"):
                yield "pickled tensors"
            elif name.endswith("_config.json"):
                for entry in json.loads(archive.read_string(name)).get("config", {}).values():
                    kind = str(entry["path_name"])
                    if entry["use_pickle"] or "obj" in kind:
                        yield f"a pickled object ({kind})"
            elif folder == "models":
                yield from _suspicious(json.loads(archive.read_string(name)))


def _suspicious(part: Any) -> Iterator[str]:
    """Functions and expressions in a serialized program that are no operators and no sizes."""
    if isinstance(part, dict):
        for key, value in part.items():
            if isinstance(value, str):
                if key == "target" and value and not _OPERATOR.fullmatch(value):
                    yield f"a call of {value!r}"
                if key == "expr_str" and not _is_size(value):
                    yield f"the expression {value!r}"
                if key == "name" and not _NAME.fullmatch(value):
                    yield f"the name {value!r}"
            else:
                yield from _suspicious(value)
    elif isinstance(part, list):
        for value in part:
            yield from _suspicious(value)


def _is_size(text: str) -> bool:
    """Whether an expression only does arithmetic: no attributes, no subscripts, no builtins."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED_EXPRESSION):
            return False
        if isinstance(node, ast.Name) and _NEVER_CALLED.match(node.id):
            return False
        if isinstance(node, ast.Constant) and not re.fullmatch(r"[\w.+-]*", str(node.value)):
            return False
    return True


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Every `torch.load` inside refuses objects other than tensors; torch's chatter is hidden."""
    name, logger = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", logging.getLogger("torch")
    before, level = os.environ.get(name), logger.level
    os.environ[name] = "1"
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
