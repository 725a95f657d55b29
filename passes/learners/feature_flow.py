"""Feature flow regularization (Wu et al. 2021): features that change little along a network.

Short and straight trajectories of features need few filters, so that structured sparsity follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import LearnerError
from autoprune.passes.learners.features import Features, Watch, find_stages, wide


class FeatureFlow(Watch):
    """Penalizes length and curvature of the features' trajectory through a network.

    Along the features x_0, x_1, ... of a stage, as long as their shape is the same,

        k1 Σ mean|x_{l+1} - x_l| + k2 Σ mean|x_{l+1} - 2 x_l + x_{l-1}|

    where a mean is over all elements. Features are taken in order of execution, by hooks that see
    the model's training passes (which passes: `Watch`).

        loss = criterion(model(x), y) + flow.loss()

    Args:
        model: the model being trained.
        k1: weight of the length.
        k2: weight of the curvature.
        features: names of modules whose outputs are one stage; by default the stages are the lists
            of blocks, see `autoprune.passes.learners.features.find_stages`.

    Raises:
        LearnerError: if a weight is negative, there are no features, or no modules of the names
            given.
    """

    def __init__(
        self, model: nn.Module, k1: float, k2: float, features: Sequence[str] = ()
    ) -> None:
        if not all(math.isfinite(k) and k >= 0 for k in (k1, k2)):
            raise LearnerError(f"weights of feature flow are 0 or more, got {k1} and {k2}")
        self._k1, self._k2 = k1, k2
        self._stages = (tuple(features),) if features else find_stages(model)
        names = [name for stage in self._stages for name in stage]
        if len(names) < 2:
            raise LearnerError(
                "the flow of features needs two of them at least",
                where=type(model).__name__,
                hint="name consecutive modules: FeatureFlow(..., features=...)",
            )
        super().__init__(model, names)

    def term(self, output: Any, features: Features) -> Tensor:
        flows = [flow for stage in self._stages for flow in _flows(stage, features)]
        if not flows:
            shapes = (f"`{name}`: {tuple(x.shape)}" for (name, _), x in features.items())
            raise LearnerError(
                "no two consecutive features have the same shape",
                where=", ".join(shapes),
                hint="name consecutive modules of one stage: FeatureFlow(..., features=...)",
            )
        return torch.stack([flow_loss(flow, self._k1, self._k2) for flow in flows]).sum()


def flow_loss(flow: Sequence[Tensor], k1: float, k2: float) -> Tensor:
    """Weighted length and curvature of a trajectory of two or more features of one shape."""
    steps = [after - before for before, after in pairwise(map(wide, flow))]
    turns = [after - before for before, after in pairwise(steps)]
    length = torch.stack([step.abs().mean() for step in steps]).sum()
    if not turns:
        return k1 * length
    return k1 * length + k2 * torch.stack([turn.abs().mean() for turn in turns]).sum()


def _flows(stage: Sequence[str], features: Features) -> Iterator[list[Tensor]]:
    """Runs of two or more features of one shape."""
    ordered = (tensor for (name, _), tensor in features.items() if name in stage)
    for _, run in groupby(ordered, key=lambda tensor: tensor.shape):
        flow = list(run)
        if len(flow) > 1:
            yield flow
