"""Letting go of large networks that are not needed any more."""

from __future__ import annotations

import gc

from torch import nn

WORTH_COLLECTING = 1 << 26
"""Bytes of weights from which a pass of the garbage collector over all of torch pays."""


def collect_like(model: nn.Module) -> None:
    """Free networks such as this one, if it is large.

    Graphs, and what torch.export makes, refer to themselves: they would stay for long.
    """
    if sum(p.nbytes for p in model.parameters()) > WORTH_COLLECTING:
        gc.collect()
