"""The steps in which groups can shrink: by units, in blocks, in step with other groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd, lcm, prod

import numpy as np

from autoprune.ir.axes import Axis, Leaf, Sum
from autoprune.ir.group import Group
from autoprune.ir.positions import Indices, Kept, PerOuter
from autoprune.passes.pruning.criteria import Scores


@dataclass(frozen=True)
class Candidate:
    """A group that may shrink.

    Attributes:
        scores: of each unit; shape [units], or [outer units, units] to choose units anew for each
            unit of the outer leaf.
        block: kept counts are multiples of this (or all units).
        least: units that stay at least.
    """

    group: Group
    scores: Scores
    block: int = 1
    least: int = 1
    outer: Leaf | None = None


@dataclass(frozen=True)
class Bundle:
    """Candidates whose kept shares must be equal, and the counts they can take, falling."""

    members: tuple[Candidate, ...]
    levels: tuple[tuple[int, ...], ...]


def block_sizes(axes: Iterable[Axis], free: frozenset[int], multiple_of: int) -> dict[int, int]:
    """Units to a block by leaf, so that every axis of parameters stays a multiple, or whole.

    Of several free factors the innermost is put in blocks; a unit that owns many positions (a head
    of fixed width, a flattened channel) may need none.
    """
    blocks = dict.fromkeys(free, 1)

    def require(axis: Axis, multiple: int) -> None:
        if isinstance(axis, Leaf):
            if axis.uid in free:
                blocks[axis.uid] = lcm(blocks[axis.uid], multiple)
        elif isinstance(axis, Sum):
            for term, times in Counter(axis.terms).items():
                require(term, multiple // gcd(multiple, times))
        else:
            fixed = prod(f.size for f in axis.factors if f.uids.isdisjoint(free))
            multiple //= gcd(multiple, fixed)
            for factor in reversed(axis.factors):
                if not factor.uids.isdisjoint(free):
                    require(factor, multiple)
                    multiple //= gcd(multiple, factor.size)

    for axis in axes:
        require(axis, multiple_of)
    return blocks


def roomy_block(units: int, block: int) -> int:
    """The largest divisor of `block` by powers of two that leaves a group four steps to shrink."""
    while block % 2 == 0 and units < 4 * block:
        block //= 2
    return block


def bundles_of(
    candidates: Sequence[Candidate], ties: Iterable[frozenset[int]] = ()
) -> tuple[Bundle, ...]:
    """Join tied candidates, whose kept shares must be equal; ties that share a leaf join up.

    Leaves of no candidate do not count.
    """
    uids = [c.group.leaf.uid for c in candidates]
    root = {uid: uid for uid in uids}
    for tie in ties:
        roots = {root[uid] for uid in uids if uid in tie}
        root = {uid: min(roots) if r in roots else r for uid, r in root.items()}
    joined: dict[int, list[Candidate]] = {}
    for uid, candidate in zip(uids, candidates, strict=True):
        joined.setdefault(root[uid], []).append(candidate)
    return tuple(Bundle(tuple(m), tuple(levels_of(m))) for m in joined.values())


def levels_of(members: Sequence[Candidate]) -> list[tuple[int, ...]]:
    """The counts that tied candidates can take, from all units downwards."""
    steps = gcd(*(c.group.units for c in members))
    per_step = [c.group.units // steps for c in members]
    # Between all units and the least, every member has to be left with whole blocks.
    block = lcm(*(c.block // gcd(c.block, n) for c, n in zip(members, per_step, strict=True)))
    least = max(1, *(-(-c.least // n) for c, n in zip(members, per_step, strict=True)))
    allowed = (steps, *range((steps - 1) // block * block, least - 1, -block))
    return list(zip(*([n * step for step in allowed] for n in per_step), strict=True))


def counts_at(bundles: Sequence[Bundle], levels: Sequence[int]) -> dict[int, int]:
    """Kept counts by leaf, with every bundle at one of its levels."""
    return {
        member.group.leaf.uid: bundle.levels[level][i]
        for bundle, level in zip(bundles, levels, strict=True)
        for i, member in enumerate(bundle.members)
    }


def keep_best(bundles: Sequence[Bundle], levels: Sequence[int]) -> Kept:
    """The best-scored units of each group; ties go to the lower index."""
    kept: dict[int, Indices | PerOuter] = {}
    for bundle, level in zip(bundles, levels, strict=True):
        for i, member in enumerate(bundle.members):
            count = bundle.levels[level][i]
            if count < member.group.units:
                ranked = np.argsort(-member.scores, kind="stable", axis=-1)
                best = np.sort(ranked[..., :count], axis=-1).astype(np.intp)
                kept[member.group.leaf.uid] = (
                    best
                    if member.outer is None or best.ndim == 1
                    else PerOuter(member.outer.uid, best)
                )
    return kept
