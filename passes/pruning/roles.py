"""Groups that play the same role in repeated layers, such as the heads of every block."""

from __future__ import annotations

import re
from collections.abc import Iterable

from autoprune.ir.group import Group

Role = tuple[str, int]
"""The name of a group without the indices of layers, and its number of units."""

_INDEX = re.compile(r"(?:(?<=[._])|^)\d+(?=\.)")


def role(name: str, units: int) -> Role:
    """What groups of the same role have in common.

    >>> role("encoder.layer.3.query.weight:0/1", 64)
    ('encoder.layer.*.query.weight:0/1', 64)
    """
    return _INDEX.sub("*", name), units


def same_roles(groups: Iterable[Group]) -> list[frozenset[int]]:
    """The leaves of groups that play the same role."""
    found: dict[Role, set[int]] = {}
    for group in groups:
        found.setdefault(role(group.name, group.units), set()).add(group.leaf.uid)
    return [frozenset(uids) for uids in found.values() if len(uids) > 1]


def joined(sets: Iterable[frozenset[int]]) -> list[frozenset[int]]:
    """Sets that share a member, as one.

    >>> joined([frozenset({1, 2}), frozenset({3}), frozenset({2, 4})])
    [frozenset({3}), frozenset({1, 2, 4})]
    """
    found: list[frozenset[int]] = []
    for new in filter(None, sets):
        touching = [known for known in found if not known.isdisjoint(new)]
        found = [*(known for known in found if known.isdisjoint(new)), new.union(*touching)]
    return found
