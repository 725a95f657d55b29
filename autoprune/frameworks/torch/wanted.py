"""Which of a model's outputs matter."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from autoprune.errors import TraceError
from autoprune.frameworks.torch.objects import Outputs, tensors_in


def wanted_outputs(
    module: fx.GraphModule, outputs: Outputs | None, names: Sequence[int | str]
) -> frozenset[int] | None:
    """Positions of outputs of an exported model among their leaves in plain form; None for all.

    Args:
        module: the exported model.
        outputs: how the outputs of the model were read; None if it is an exported graph itself.
        names: positions, keys or fields, or paths of these with dots between; empty for all.

    Raises:
        TraceError: if there is no such output, or no tensor in it.
    """
    if not names:
        return None
    (node,) = (n for n in module.graph.nodes if n.op == "output")
    # Marks, put together as the model puts its outputs together, show what a name stands for.
    marks = [
        torch.empty(0, device="meta") if isinstance(leaf, fx.Node) else leaf
        for leaf in pytree.tree_leaves(node.args)
    ]
    if outputs is None:
        assert module._out_spec is not None
        structure = pytree.tree_unflatten(marks, module._out_spec)
    else:
        plain = pytree.tree_structure(outputs.values)
        structure = outputs.restored(pytree.tree_unflatten(marks, plain))
    chosen = set[int]()
    for name in names:
        found = tensors_in(_pick(structure, name))
        if not found:
            raise TraceError(
                f"outputs={name!r} is no tensor, so there is nothing to compare",
                hint="name one of the outputs that hold tensors",
            )
        chosen.update(map(id, found))
    return frozenset(i for i, mark in enumerate(marks) if id(mark) in chosen)


def _named_parts(structure: Any) -> dict[int | str, Any]:
    """The outputs by position and, where they have any, by name."""
    named: dict[str, Any] = {}
    if isinstance(structure, Mapping):
        named = {str(key): part for key, part in structure.items()}
    elif dataclasses.is_dataclass(structure) and not isinstance(structure, type):
        named = {f.name: getattr(structure, f.name) for f in dataclasses.fields(structure)}
    elif isinstance(structure, tuple) and hasattr(structure, "_fields"):
        named = dict(zip(structure._fields, structure, strict=True))
    parts = list(named.values()) if named else structure
    if not isinstance(parts, list | tuple):
        parts = [parts]
    found: dict[int | str, Any] = dict(enumerate(parts))
    found.update(named.items())
    return found


def _pick(structure: Any, wanted: int | str) -> Any:
    """The part at a position, with a name, or at the end of a path."""
    parts = _named_parts(structure)
    count = sum(isinstance(key, int) for key in parts)
    key = wanted + count if isinstance(wanted, int) and wanted < 0 else wanted
    if key in parts:
        return parts[key]
    if isinstance(wanted, str) and "." in wanted:
        with suppress(KeyError):
            return _at_path(structure, wanted.split("."))
    names = ", ".join(repr(key) for key in parts)
    raise TraceError(
        f"outputs={wanted!r} is none of the model's outputs",
        hint=f'give positions or names: {names}; with dots what is inside: "a.b" or "a.0"',
    )


def _at_path(structure: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        structure = _named_parts(structure)[int(step) if step.isdecimal() else step]
    return structure
