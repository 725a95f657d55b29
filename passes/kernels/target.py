"""The processors that kernels are compiled for: one entry of `TARGETS` is all there is of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.errors import TargetError
from autoprune.passes.registry import Registry


@dataclass(frozen=True)
class Dot:
    """An instruction for dot products of four 8-bit integers at a time.

    Attributes:
        intrinsic: LLVM's name; empty for multiplications and additions, on any processor.
        lanes: 32-bit sums of a vector.
        offset: what is added to activations, whose bytes the instruction reads without a sign.
        packs: instruction set of x86 in which LLVM has `packssdw` and `packuswb` for such vectors.
    """

    intrinsic: str
    lanes: int
    offset: int
    packs: str = ""


@dataclass(frozen=True)
class Platform:
    """What processors of one machine have in common.

    Attributes:
        machine: as manifests of artifacts say.
        triple: what LLVM calls it.
        compiler: the C compiler.
        package: what installs that, as Debian calls it.
        tuning: the option by which the compiler is told the processor.
    """

    machine: str
    triple: str
    compiler: str
    package: str
    tuning: str


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: as users give it.
        platform: what it shares with others.
        cpu: what LLVM calls the processor.
        lanes: float32 numbers of a vector.
        registers: vectors that it holds.
        features: instruction sets that the code uses, as manifests of artifacts say.
        attributes: further features, as LLVM calls them.
        dot: the instruction for products of 8-bit integers, if there is one.
    """

    name: str
    platform: Platform
    cpu: str
    lanes: int
    registers: int
    features: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    dot: Dot | None = None

    @property
    def machine(self) -> str:
        """As manifests of artifacts say."""
        return self.platform.machine

    @property
    def llvm(self) -> dict[str, object]:
        """As TVM describes it."""
        found = {"kind": "llvm", "mcpu": self.cpu, "mtriple": self.platform.triple}
        return found | ({"mattr": list(self.attributes)} if self.attributes else {})

    def need_dot(self) -> Dot:
        """The instruction for products of 8-bit integers.

        Raises:
            TargetError: if there is none.
        """
        if self.dot is None:
            able = " or ".join(target.name for target in TARGETS.values() if target.dot)
            raise TargetError(
                f"{self.name} has no dot products of 8-bit integers",
                hint=f"use a target that has: {able}",
            )
        return self.dot


X86 = Platform("x86-64", "x86_64-linux-gnu", "gcc", "gcc", "-march")
ARM = Platform(
    "arm64", "aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", "-mcpu"
)
AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")

TARGETS: Registry[Target] = Registry("target", TargetError, "the machine alone: x86-64")
"""The best of each machine first."""

for _target in (
    Target(
        "x86-64-v4-vnni", X86, "x86-64-v4", 16, 32, (*AVX512, "avx512_vnni"),
        ("+avx512vnni",), Dot("llvm.x86.avx512.vpdpbusd.512", 16, 128, "avx512"),
    ),
    Target("x86-64-v4", X86, "x86-64-v4", 16, 32, AVX512),
    Target("x86-64-v3", X86, "x86-64-v3", 8, 16, ("avx2", "fma")),
    Target(
        "arm64-dotprod", ARM, "generic", 4, 32, ("neon", "asimddp"),
        ("+neon", "+dotprod"), Dot("llvm.aarch64.neon.sdot.v4i32.v16i8", 4, 0),
    ),
    Target("arm64", ARM, "generic", 4, 32, ("neon",), ("+neon",)),
):  # fmt: skip
    TARGETS.add(_target.name, _target)

ELSEWHERE = {
    "cuda": "artifacts are for processors; sparse_linears of autoprune.passes.kernels.cuda.models "
    "makes a torch model run on sparse kernels for GPUs",
    "relax": "compile for a processor, then call .relax() on what comes back",
}
"""What to do instead of taking these as targets."""


def find_target(name: str) -> Target:
    """A target by name.

    Raises:
        TargetError: if there is none.
    """
    if name in ELSEWHERE:
        raise TargetError(f"there is no target {name!r}", hint=ELSEWHERE[name])
    return TARGETS.find(name)


def find_targets(names: Sequence[str], *, int8: bool = False) -> list[Target]:
    """Targets by their names, or by that of a machine, which stands for several of its own.

    Args:
        names: of targets or machines.
        int8: whether networks have products of 8-bit integers; a machine stands for its targets
            that have an instruction for them then, and for the others otherwise.

    Raises:
        TargetError: if there is none of a name, or it cannot multiply 8-bit integers.
    """
    found: dict[str, Target] = {}
    for name in names:
        of_machine = [
            target
            for target in TARGETS.values()
            if target.machine == name and (target.dot is not None) == int8
        ]
        found |= {target.name: target for target in of_machine or [find_target(name)]}
    for target in found.values() if int8 else ():
        target.need_dot()
    return list(found.values())
