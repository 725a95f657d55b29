"""Which groups are meant: by `only` and `ignore`, and by patterns that say how much to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from autoprune.analysis.groups import Groups
from autoprune.errors import BudgetError
from autoprune.ir.group import Group
from autoprune.ir.reason import Reason
from autoprune.passes.patterns import first_match
from autoprune.passes.pruning.analysed import Analysis
from autoprune.passes.pruning.request import Options, Scope
from autoprune.passes.pruning.roles import role

Part = TypeVar("Part")


@dataclass(frozen=True)
class Movable:
    """Which groups may shrink.

    Attributes:
        groups: those that may.
        reasons: by leaf, why the others may not.
        ties: leaves that have to shrink alike.
        steps: by leaf, what its kept units have to be multiples of.
    """

    groups: tuple[Group, ...]
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    ties: tuple[frozenset[int], ...] = ()
    steps: Mapping[int, int] = field(default_factory=dict)

    @property
    def free(self) -> frozenset[int]:
        """The leaves that may shrink."""
        return frozenset(g.leaf.uid for g in self.groups)

    def without(self, reasons: Mapping[int, Reason]) -> Movable:
        """What is left if some leaves stay whole, for these reasons."""
        groups = tuple(g for g in self.groups if g.leaf.uid not in reasons)
        left = {g.leaf.uid: reasons[g.leaf.uid] for g in self.groups if g.leaf.uid in reasons}
        return replace(self, groups=groups, reasons={**self.reasons, **left})


def movable_groups(analysis: Analysis, scope: Scope, options: Options) -> Movable:
    """The groups that may shrink, and by leaf why the others may not.

    In the scope, `only` is about what makes the units of a group, `ignore` about all that has a
    slice of them.

    Raises:
        AutopruneError: if a name matches nothing.
    """
    only, ignore = scope.only, scope.ignore
    analysis.check_names(only, "only")
    analysis.check_names(ignore, "ignore")
    allowed: list[Group] = []
    reasons: dict[int, Reason] = {}
    for group in analysis.found.groups:
        owned = {n for o in group.occurrences for n in analysis.spelled[o.parameter]}
        ignored = first_match(ignore, owned, group.name)
        if ignored is not None:
            reasons[group.leaf.uid] = Reason(
                f"left alone: ignore={ignored!r}", remedy="ignore less"
            )
        elif only and analysis.producing(only, group) is None:
            reasons[group.leaf.uid] = Reason(
                f"left alone: only={', '.join(map(repr, only))}", remedy="name more with only"
            )
        elif not group.guarantee.exact and not options.approximate:
            reasons[group.leaf.uid] = replace(group.reason, text=f"left alone: {group.reason.text}")
        else:
            allowed.append(group)
    if options.uniform or options.keep_config:
        asked = "uniform=True" if options.uniform else "keep_config=True"
        allowed = _with_their_roles(analysis.found, allowed, reasons, asked)
    return Movable(tuple(allowed), reasons)


def _with_their_roles(
    found: Groups, allowed: Sequence[Group], reasons: dict[int, Reason], asked: str
) -> list[Group]:
    """The groups of whose role no other keeps its size; the reasons for the rest are added.

    The reasons name the option that asked for it.
    """
    whole = {role(axis.name, axis.size): axis.name for axis in found.pinned}
    whole |= {role(g.name, g.units): g.name for g in found if g.leaf.uid in reasons}
    shrinking = [g for g in allowed if role(g.name, g.units) not in whole]
    for group in allowed:
        if group not in shrinking:
            fellow = whole[role(group.name, group.units)]
            reasons[group.leaf.uid] = Reason(
                f"left alone: {asked}, and {fellow} keeps its size", remedy=f"do without {asked}"
            )
    return shrinking


def by_group(
    analysis: Analysis,
    parts: Mapping[str, Part],
    keyword: str,
    movable: Movable,
) -> dict[int, Part]:
    """What is asked for of each group, by leaf; groups that no pattern matches are left out.

    Patterns are of what makes the units, or of the group's name; the first that matches counts.

    Raises:
        AutopruneError: if a pattern matches nothing.
        BudgetError: if there are no patterns, or one is left without a group that may shrink.
    """
    if not isinstance(parts, Mapping) or not parts:
        raise BudgetError(
            f"{keyword}={parts!r} names nothing",
            hint=f'give a dict from names or patterns, such as {keyword}={{"layer1.*": '
            f"{24 if keyword == 'sizes' else 0.8}}}",
        )
    analysis.check_names(parts, keyword)
    free = movable.free
    asked: dict[int, Part] = {}
    met: dict[str, list[Group]] = {pattern: [] for pattern in parts}
    for group in analysis.found.groups:
        pattern = analysis.producing(parts, group)
        if pattern is not None:
            met[pattern].append(group)
            if group.leaf.uid in free:
                asked[group.leaf.uid] = parts[pattern]
    for pattern, groups in met.items():
        if not any(g.leaf.uid in free for g in groups):
            why = [f"{g.name}: {movable.reasons.get(g.leaf.uid, 'left alone')}" for g in groups]
            pinned = [
                f"{axis.name}: {axis.reason}"
                for axis in analysis.found.pinned
                if first_match((pattern,), [axis.name.rpartition(":")[0]], axis.name)
            ]
            earlier = any(analysis.producing((pattern,), g) for g in movable.groups)
            raise BudgetError(
                f"{keyword}={{{pattern!r}: ...}} is about no group that may shrink",
                where=None if earlier else "; ".join((why or pinned)[:3]) or None,
                hint="earlier patterns match all its groups: put the most specific first"
                if earlier
                else "name modules that make the units; `inspect` lists the groups",
            )
    return asked
