"""The example inputs, which torch keeps as an archive of its own in the archive."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from autoprune.errors import first_line
from autoprune.frameworks.torch.pt2.records import Refused, open_records
from autoprune.frameworks.torch.pt2.tensors import SPREAD

LEAVES = 100_000
"""Tensors and numbers that the inputs may consist of."""


def read_example(data: bytes) -> Any:
    """The positional and keyword arguments that `torch.export` was given, or None.

    Raises:
        Refused: if there are objects among them, or they are large only because parts are repeated.
    """
    if not data:
        return None
    with open_records(io.BytesIO(data)):
        pass  # nothing in it is larger than it says
    try:
        example = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        line = first_line(error).split(". ")[0]
        raise Refused(f"example inputs with objects in them ({line})") from error
    spread = -len(data)
    for count, leaf in enumerate(_leaves(example)):
        spread += leaf.nbytes if isinstance(leaf, torch.Tensor) else 0
        if count >= LEAVES or spread > SPREAD:
            raise Refused("example inputs that are far larger than the file")
    return example


def _leaves(part: Any) -> Iterator[Any]:
    """Whatever is no container; each container counts as one, too."""
    if isinstance(part, Mapping):
        part = list(part.values())
    if isinstance(part, list | tuple):
        yield None
        for value in part:
            yield from _leaves(value)
    else:
        yield part
