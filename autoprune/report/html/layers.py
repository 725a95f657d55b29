"""Layered drawing: in which row each item of a graph goes, and in which order (Sugiyama)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SWEEPS = 4
"""Times the rows are ordered downwards and upwards; crossings hardly change after these."""


class Edge(NamedTuple):
    """A value: the item that gives it and the items that take it."""

    source: int
    targets: tuple[int, ...]


Rows = list[list[int]]
"""Items from left to right, row by row; `~e` stands for edge `e` passing through the row."""


def rows_of(count: int, edges: Sequence[Edge], top: int, bottom: int) -> Rows:
    """Rows such that every edge goes down.

    The items are numbered in topological order. The first ones, so many as `top`, are ports and
    share the first row; so do the last ones the last row. A value that several items take is one
    edge.
    """
    ranks = _ranks(count, edges, top, bottom)
    rows: Rows = [[] for _ in range(max(ranks, default=-1) + 1)]
    for item, rank in enumerate(ranks):
        rows[rank].append(item)
    links: list[list[tuple[int, int]]] = [[] for _ in rows]
    for e, (source, targets) in enumerate(edges):
        end = max((ranks[t] for t in targets), default=0)
        for rank in range(ranks[source] + 1, end):
            rows[rank].append(~e)
        for rank in range(ranks[source], end):
            here = source if rank == ranks[source] else ~e
            links[rank].extend((here, t) for t in targets if ranks[t] == rank + 1)
            if rank + 1 < end:
                links[rank].append((here, ~e))
    for _ in range(SWEEPS):
        for rank in range(1, len(rows)):
            _order(rows[rank], rows[rank - 1], [(b, a) for a, b in links[rank - 1]])
        for rank in range(len(rows) - 2, -1, -1):
            _order(rows[rank], rows[rank + 1], links[rank])
    return [row for row in rows if row]


def _ranks(count: int, edges: Sequence[Edge], top: int, bottom: int) -> list[int]:
    """Longest path from the top; items that take nothing go right above their first reader."""
    first = 1 if top else 0
    ranks = [0 if item < top else first for item in range(count)]
    given: list[list[int]] = [[] for _ in range(count)]
    taken: list[list[int]] = [[] for _ in range(count)]
    for source, targets in edges:
        for target in targets:
            given[source].append(target)
            taken[target].append(source)
    for item in range(top, count):
        ranks[item] = max((ranks[s] + 1 for s in taken[item]), default=first)
    for item in range(count - bottom - 1, top - 1, -1):
        if not taken[item] and given[item]:
            ranks[item] = max(first, min(ranks[t] for t in given[item]) - 1)
    if bottom:
        last = max(ranks[: count - bottom], default=0) + 1
        ranks[count - bottom :] = [last] * bottom
    return ranks


def _order(row: list[int], fixed: list[int], links: Sequence[tuple[int, int]]) -> None:
    """Order a row by the mean position of what each item is linked to in the fixed row."""
    place = {item: i / max(1, len(fixed) - 1) for i, item in enumerate(fixed)}
    linked: dict[int, list[float]] = {}
    for item, other in links:
        linked.setdefault(item, []).append(place[other])
    now = {item: i / max(1, len(row) - 1) for i, item in enumerate(row)}
    row.sort(key=lambda item: sum(p := linked.get(item, [now[item]])) / len(p))
