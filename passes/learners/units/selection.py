"""Which units a target wants removed, given a score for each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from autoprune.errors import LearnerError
from autoprune.ir.group import Group
from autoprune.ir.positions import Kept, PerOuter
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.choose import UnitScores, allocate
from autoprune.passes.pruning.request import Request
from autoprune.passes.pruning.scope import Movable


@dataclass(frozen=True, eq=False)
class Selection:
    """A target, and the groups that may shrink to meet it.

    Attributes:
        analysis: of the model.
        movable: the groups that may shrink, and which of them have to shrink alike.
        request: the target and how to meet it.
    """

    analysis: Analysis
    movable: Movable
    request: Request

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups that may shrink."""
        return self.movable.groups

    def choose(self, scores: Tensor, gone: Tensor) -> Tensor:
        """The units that have to go so that the target is met, by the lowest scores.

        Args:
            scores: shape [units].
            gone: those that go in any case; shape [units].

        Raises:
            LearnerError: if a score is not finite.
            BudgetError: if the target cannot be met.
        """
        values = scores.double().cpu().numpy()
        if not np.isfinite(values).all():
            raise LearnerError(
                "weights or updates are not finite, so units cannot be compared",
                hint="lower the learning rate, or go back to a checkpoint",
            )
        values = np.where(gone.cpu().numpy(), -np.inf, values)
        by_group = np.split(values, np.cumsum([g.units for g in self.groups])[:-1])
        uids = (g.leaf.uid for g in self.groups)
        scored = UnitScores(dict(zip(uids, by_group, strict=True)))
        kept = allocate(self.analysis, self.movable, scored, self.request)
        masks = [_removed(group, kept) for group in self.groups]
        return torch.from_numpy(np.concatenate(masks)).to(scores.device)

    def kept(self, removed: Tensor) -> dict[str, list[int]]:
        """The units that stay of every group that loses some, by its name."""
        masks = removed.cpu().split([g.units for g in self.groups])
        return {
            group.name: (~mask).nonzero()[:, 0].tolist()
            for group, mask in zip(self.groups, masks, strict=True)
            if mask.any()
        }

    def cost_shares(self, removed: Tensor) -> tuple[float, float]:
        """Shares of the FLOPs and of the parameters that are left without some units."""
        counts = [int(mask.sum()) for mask in removed.cpu().split([g.units for g in self.groups])]
        sizes = {g.leaf.uid: g.units - n for g, n in zip(self.groups, counts, strict=True)}
        costs = self.analysis.costs
        full = (max(1, costs.flops({})), max(1, costs.params({})))
        return costs.flops(sizes) / full[0], costs.params(sizes) / full[1]


def _removed(group: Group, kept: Kept) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    mask = np.zeros(group.units, dtype=bool)
    stays = kept.get(group.leaf.uid)
    if stays is not None:
        assert not isinstance(stays, PerOuter)
        mask[:] = True
        mask[stays] = False
    return mask


def lowest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """A mask of the `count` lowest-scored units among some; of equals the first. Shapes [units]."""
    candidates = among.nonzero()[:, 0]
    order = scores[candidates].argsort(stable=True)
    mask = torch.zeros_like(among)
    mask[candidates[order[:count]]] = True
    return mask
