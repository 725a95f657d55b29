"""Files of networks whose batch may vary.

A network is exported with a first axis that varies wherever it runs and exports so; what comes out
is compared with it on the batch of the example inputs and on others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from autoprune.errors import first_line
from autoprune.frameworks.torch.equality import evaluating, run
from autoprune.frameworks.torch.objects import Inputs, input_leaves, map_tensors
from autoprune.frameworks.torch.packed import export
from autoprune.frameworks.torch.trace import copy_of, exportable, first_axes

OTHERS = (1, 3)
"""Batches that are tried beside that of the example inputs."""


class FixedBatch(Exception):
    """The batch of a network cannot vary; the message says why."""


class Example(NamedTuple):
    """Inputs, and what the network makes of them."""

    inputs: Inputs
    expected: Any


def batch_of(inputs: Inputs) -> int:
    """The first size of every tensor among the inputs, or 0 if they do not share one."""
    sizes = {
        leaf.shape[0]
        for leaf in input_leaves(inputs)
        if isinstance(leaf, torch.Tensor) and leaf.ndim
    }
    return sizes.pop() if len(sizes) == 1 else 0


def with_batch(inputs: Inputs, batch: int) -> Inputs:
    """The inputs with so many rows: theirs, in turn, of the same values in another order.

    Equal rows would hide that a network mixes them up.
    """

    def resized(leaf: torch.Tensor) -> torch.Tensor:
        if not leaf.ndim:
            return leaf
        rows = [leaf[i % leaf.shape[0]] for i in range(batch)]
        return torch.stack([row.roll(i, -1) if row.ndim else row for i, row in enumerate(rows)])

    return map_tensors(resized, inputs)


def export_any_batch(
    model: nn.Module, inputs: Inputs
) -> tuple[torch.export.ExportedProgram, tuple[Example, ...]]:
    """Export a network, in evaluation mode, such that its batch varies.

    Args:
        model: the network; it is not changed.
        inputs: example inputs; a batch of one is doubled, as torch.export takes ones for fixed.

    Returns:
        The program, and examples of several batches to compare it on.

    Raises:
        FixedBatch: if there is no batch, or the network fixes it.
    """
    batch = batch_of(inputs)
    if not batch:
        raise FixedBatch("the first axes of the example inputs differ")
    examples = tuple(_examples(model, inputs, batch))
    work = copy_of(model)
    try:
        given, _ = exportable(work, with_batch(inputs, max(batch, 2)))
        shapes = first_axes(model, given, torch.export.Dim("batch"))
        with evaluating(work), torch.no_grad():
            program = export(work, given.args, given.kwargs, shapes)
    except Exception as error:
        raise FixedBatch(f"torch.export finds it fixed: {first_line(error)}") from error
    return program, examples


def _examples(model: nn.Module, inputs: Inputs, batch: int) -> Iterator[Example]:
    for size in dict.fromkeys((batch, *OTHERS)):
        given = inputs if size == batch else with_batch(inputs, size)
        work = copy_of(model)
        try:
            with evaluating(work):
                yield Example(given, run(work, given))
        except Exception as error:
            raise FixedBatch(
                f"the network does not run on a batch of {size}: {first_line(error)}"
            ) from error
