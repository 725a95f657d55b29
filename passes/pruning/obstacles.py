"""What is kept whole of a network, and why: for errors about budgets that cannot be met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups, leaf_names
from autoprune.analysis.typing import TypedGraph
from autoprune.ir.reason import Reason
from autoprune.passes.pruning.request import Options
from autoprune.report.tables import and_more, grouped

NAMED = 3
"""Obstacles that an error names at most."""


@dataclass(frozen=True)
class _Part:
    """An axis that keeps its size, and the reason.

    Attributes:
        share: of what remains that hangs on it; None where its positions are no units.
        is_window: whether it is the extent of a window.
    """

    share: float | None
    name: str
    size: int
    reason: str
    is_window: bool

    def __str__(self) -> str:
        share = f", {self.share:.0%}" if self.share and self.share >= 0.005 else ""
        return f"{self.name} ({self.size} units{share})"


@dataclass(frozen=True)
class Obstacles:
    """The axes that keep their size, and by leaf why groups were left alone.

    What is to shrink is a cost; where it is not `flops` or `memory`, parameters count.
    """

    typed: TypedGraph
    found: Groups
    reasons: Mapping[int, Reason]
    cost: str

    @property
    def _counted(self) -> str:
        return self.cost if self.cost in ("flops", "memory") else "params"

    def largest(self) -> str | None:
        """Those on which most hangs of what no budget removes, and why; None if there are none."""
        parts = sorted(
            self._parts(), key=lambda p: (p.is_window, p.share is not None, -(p.share or 0))
        )
        by_reason = grouped((part.reason, str(part)) for part in parts)
        shown = [f"{and_more(axes)}: {reason}" for reason, axes in list(by_reason.items())[:NAMED]]
        if not shown:
            return None
        what = f"kept whole, with the share of the remaining {self._counted} that hangs on it"
        return f"{what}: {'; '.join(shown)}"

    def _parts(self) -> Iterator[_Part]:
        uids = {name: uid for uid, name in leaf_names(self.typed).items()}
        whole = [(p.name, p.size, p.reason) for p in self.found.pinned]
        for group in self.found.groups:
            if group.leaf.uid in self.reasons:
                whole.append((group.name, group.units, self.reasons[group.leaf.uid]))
        model = CostModel(self.typed, frozenset(uids.values()))
        cost = getattr(model, self._counted)
        least = {g.leaf.uid: 1 for g in self.found.groups if g.leaf.uid not in self.reasons}
        remaining = cost(least)
        graph = self.typed.graph
        activations = [*graph.inputs, *(v for node in graph.nodes for v in node.outputs)]
        computed = frozenset[int]().union(*(self.typed.uids[v.name] for v in activations))
        for name, size, reason in whole:
            if name not in uids:
                yield _Part(None, name, size, reason.text, is_window=False)
                continue
            line = f", {reason.source}" if reason.source else ""
            share = 1 - cost({**least, uids[name]: 1}) / remaining if remaining else 0.0
            is_window = uids[name] not in computed and reason.node not in self.typed.unknown
            yield _Part(share, name, size, reason.text + line, is_window)

    def advice(self, options: Options, *, reducible: bool, multiple_of: int | None = None) -> str:
        """What would leave less whole; without anything reducible, asking for more would not."""
        if not any(p.kind == "parameter" for p in self.typed.graph.parameters):
            return "the model has no parameters: pass one that has"
        ways = ["ask for more"] if reducible else []
        ways += dict.fromkeys(r.remedy for r in self.reasons.values() if r.remedy)
        if not options.approximate and any(not g.guarantee.exact for g in self.found.groups):
            ways.append(
                "allow groups whose removal changes the function with Options(approximate=True) "
                "(--approximate)"
            )
        if self.typed.unknown:
            ways.append(f"give {self.typed.unknown[0].op} a rule (`autoprune.rule`)")
        if options.min_units > 1:
            ways.append("lower min_units")
        if multiple_of is not None and multiple_of > 1:
            ways.append("lower multiple_of")
        return ", or ".join(ways) or "`inspect` shows every axis that is kept whole, and why"
