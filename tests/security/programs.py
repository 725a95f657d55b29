"""A small exported program, and ways to change what a `.pt2` file of it holds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
EXAMPLE = "data/sample_inputs/model.pt"

Change = Callable[[dict[str, bytes]], object]


class Net(nn.Module):
    """Has a graph in its graph, a size that varies, and a keyword argument."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x, scale=None):
        with torch.no_grad():
            y = self.fc(x)
        y = y.view(x.shape[0] * 3).view(x.shape[0], 3)
        return y if scale is None else y * scale


@cache
def exported() -> dict[str, bytes]:
    """The members of an archive of `Net`, by their names below its folder."""
    program = torch.export.export(
        Net().eval(), (torch.ones(2, 4),), {"scale": torch.ones(3)},
        dynamic_shapes={"x": {0: torch.export.Dim("batch")}, "scale": None}, strict=False,
    )  # fmt: skip
    return members_of(program)


def members_of(program: torch.export.ExportedProgram) -> dict[str, bytes]:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, change: Change = lambda members: None, **how: Any) -> Path:
    """Write the program's archive, after a change of its members."""
    members = dict(exported())
    change(members)
    with zipfile.ZipFile(path, "w", **how) as archive:
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return path


def editing(member: str, edit: Callable[[Any], object]) -> Change:
    """A change of what a member holds as JSON."""

    def change(members: dict[str, bytes]) -> None:
        tree = json.loads(members[member])
        edit(tree)
        members[member] = json.dumps(tree).encode()

    return change


def parts(tree: Any, key: str) -> Iterator[dict[str, Any]]:
    """Every object below a tree that has a key, the outermost first."""
    if isinstance(tree, dict):
        if key in tree:
            yield tree
        tree = list(tree.values())
    for value in tree if isinstance(tree, list) else ():
        yield from parts(value, key)


def setting(key: str, value: Any, which: int = 0) -> Change:
    """A change of the program: another value for the first (or another) entry called `key`."""

    def edit(tree: Any) -> None:
        list(parts(tree, key))[which][key] = value

    return editing(MODEL, edit)
