"""For which processors to compile, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.passes.kernels.target import Target, find_targets
from autoprune.runtime.cpu import this_cpu


@dataclass(frozen=True, slots=True)
class CompileOptions:
    """How to compile.

    Attributes:
        targets: names of processors, or of machines, which stand for some of theirs.
        int8: round linear layers and convolutions to 8 bits where their blocks have four inputs.
        measure: run fusion regions on this processor, if it is one of the targets, and keep those
            dense that gain too little.
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
        return find_targets(self.targets, int8=self.int8)


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
