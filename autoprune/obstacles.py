"""What is kept whole of a network, and why: for errors about budgets that cannot be met."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from autoprune.analysis.cost import CostModel
from autoprune.analysis.groups import Groups, leaf_names
from autoprune.analysis.typing import TypedGraph
from autoprune.report.explain import Reasons
from autoprune.request import Options

NAMED = 3
"""Obstacles that an error names at most."""


@dataclass(frozen=True)
class _Part:
    """An axis that keeps its size: the share of the cost that hangs on it, and the reason."""

    share: float
    name: str
    size: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.size} units, {self.share:.0%})"


@dataclass(frozen=True)
class Obstacles:
    """The axes that keep their size.

    Attributes:
        typed: the graph.
        found: its groups.
        reasons: by leaf, why groups were left alone.
        cost: what is to shrink; where it is not `flops` or `memory`, parameters count.
    """

    typed: TypedGraph
    found: Groups
    reasons: Mapping[int, str]
    cost: str

    def largest(self) -> str | None:
        """Those on which most of the cost hangs, with their reasons; None if there are none."""
        parts = sorted(self._parts(), key=lambda part: -part.share)
        by_reason: dict[str, list[_Part]] = {}
        for part in parts:
            by_reason.setdefault(part.reason, []).append(part)
        counted = self.cost if self.cost in ("flops", "memory") else "params"
        shown = [
            f"{axes[0]}{f' and {len(axes) - 1} more' if len(axes) > 1 else ''}: {reason}"
            for reason, axes in list(by_reason.items())[:NAMED]
        ]
        if not shown:
            return None
        text = "; ".join(shown)
        return f"kept whole, with the share of the {counted} that hangs on each: {text}"

    def _parts(self) -> Iterator[_Part]:
        uids = {name: uid for uid, name in leaf_names(self.typed).items()}
        whole = [(p.name, p.size, p.reason) for p in self.found.pinned]
        for group in self.found.groups:
            if group.leaf.uid in self.reasons:
                whole.append((group.name, group.units, self.reasons[group.leaf.uid]))
        costs = CostModel(self.typed, frozenset(uids.values()))
        full = costs.at({})
        places = Reasons(self.typed.graph)
        for name, size, reason in whole:
            if name not in uids:
                continue
            params, flops = costs.saved(uids[name], 1)
            share = params / max(1, full.params)
            if self.cost == "flops":
                share = flops / max(1, full.flops)
            elif self.cost == "memory":
                share = 1 - costs.memory({uids[name]: 1}) / max(1, full.memory)
            text, node = places.split(reason)
            line = f", {node.source}" if node and node.source else ""
            yield _Part(share, name, size, text + line)

    def advice(self, options: Options, *, reducible: bool) -> str:
        """What would leave less whole.

        Args:
            options: the user's.
            reducible: whether anything may shrink at all.
        """
        if not any(p.kind == "parameter" for p in self.typed.graph.parameters):
            return "the model has no parameters: pass one that has"
        left = [*self.reasons.values()]
        ways = ["ask for more"] if reducible else []
        if any("left alone: only=" in reason for reason in left):
            ways.append("name more with only")
        if any("left alone: ignore=" in reason for reason in left):
            ways.append("ignore less")
        if any("keep the model's class" in reason for reason in left):
            ways.append("let the result be of another class with Options(keep_class=False)")
        if any("is frozen" in reason for reason in left):
            ways.append("let what is frozen train (requires_grad_())")
        for option in ("uniform=True", "keep_config=True"):
            if any(f"left alone: {option}" in reason for reason in left):
                ways.append(f"do without {option}")
        if not options.approximate and any(not g.guarantee.exact for g in self.found.groups):
            ways.append(
                "allow groups whose removal changes the function with Options(approximate=True) "
                "(--approximate)"
            )
        if self.typed.unknown:
            ways.append(f"give {self.typed.unknown[0].op} a rule (`autoprune.rule`)")
        if options.min_units > 1:
            ways.append("lower min_units")
        return ", or ".join(ways) or "`inspect` shows every axis that is kept whole, and why"
