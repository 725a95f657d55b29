"""Which units a target wants removed, given a score for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
        values = scores.double().cpu()
        if not values.isfinite().all():
            raise LearnerError(
                "weights or updates are not finite, so units cannot be compared",
                hint="lower the learning rate, or go back to a checkpoint",
            )
        by_group = self._by_group(values.masked_fill(gone.cpu(), -torch.inf))
        scored = UnitScores({group.leaf.uid: part.numpy() for group, part in by_group})
        kept = allocate(self.analysis, self.movable, scored, self.request)
        return torch.cat([_removed(group, kept) for group in self.groups]).to(scores.device)

    def kept(self, removed: Tensor) -> dict[str, list[int]]:
        """The units that stay of every group that loses some, by its name."""
        return {
            group.name: (~mask).nonzero()[:, 0].tolist()
            for group, mask in self._by_group(removed)
            if mask.any()
        }

    def cost_shares(self, removed: Tensor) -> tuple[float, float]:
        """Shares of the FLOPs and of the parameters that are left without some units."""
        sizes = {g.leaf.uid: int((~mask).sum()) for g, mask in self._by_group(removed)}
        costs = self.analysis.costs
        full = (max(1, costs.flops({})), max(1, costs.params({})))
        return costs.flops(sizes) / full[0], costs.params(sizes) / full[1]

    def _by_group(self, values: Tensor) -> Iterator[tuple[Group, Tensor]]:
        parts = values.cpu().split([group.units for group in self.groups])
        return zip(self.groups, parts, strict=True)


def _removed(group: Group, kept: Kept) -> Tensor:
    mask = torch.zeros(group.units, dtype=torch.bool)
    stays = kept.get(group.leaf.uid)
    if stays is not None:
        assert not isinstance(stays, PerOuter)
        mask[:] = True
        mask[torch.from_numpy(stays)] = False
    return mask


def lowest(scores: Tensor, among: Tensor, count: int) -> Tensor:
    """A mask of the `count` lowest-scored units among some; of equals the first. Shapes [units]."""
    candidates = among.nonzero()[:, 0]
    order = scores[candidates].argsort(stable=True)
    mask = torch.zeros_like(among)
    mask[candidates[order[:count]]] = True
    return mask
