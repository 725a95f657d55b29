"""For which processors to compile, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.errors import TargetError
from autoprune.passes.kernels.build import Target, find_target
from autoprune.runtime.cpu import this_cpu

GROUPS = {"x86-64": ("x86-64-v4", "x86-64-v3"), "arm64": ("arm64",)}
"""Targets that stand for several, the best first."""

INT8_GROUPS = {"x86-64": ("x86-64-v4-vnni",), "arm64": ("arm64-dotprod",)}
"""The same for networks with products of 8-bit integers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How to compile.

    Attributes:
        targets: names of processors, or of groups of them.
        int8: round linear layers and convolutions to 8 bits where their blocks have four inputs.
        measure: run islands on this processor, if it is one of the targets, and keep those dense
            that gain too little.
    """

    targets: tuple[str, ...]
    int8: bool = False
    measure: bool = True

    def processors(self) -> list[Target]:
        """What the targets stand for.

        Raises:
            TargetError: if one is unknown, or has no products of 8-bit integers though they are
                asked for.
        """
        groups = INT8_GROUPS if self.int8 else GROUPS
        names = dict.fromkeys(n for name in self.targets for n in groups.get(name, (name,)))
        found = [find_target(name) for name in names]
        lacking = [target.name for target in found if self.int8 and target.dot is None]
        if lacking:
            raise TargetError(
                f"{lacking[0]} has no dot products of 8-bit integers",
                hint="use a target that has, such as x86-64-v4-vnni or arm64-dotprod",
            )
        return found


def runs_here(processors: Sequence[Target]) -> Target | None:
    """The first of the targets that this processor is."""
    cpu = this_cpu()
    found = (
        target
        for target in processors
        if cpu.system == "linux"
        and target.machine == cpu.machine
        and set(target.features) <= cpu.features
    )
    return next(found, None)
