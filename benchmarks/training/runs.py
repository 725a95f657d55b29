"""The list of runs, and how they are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

LEARNERS = ("hesso", "dhspg", "hesso_cric", "hspg")
REGULARIZERS = ("group_lasso", "wgsef", "polarization", "turbo_vbi")
PEERS = ("one-shot", "random", "torch-pruning")


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        task: name of what is trained.
        method: name of how.
        percent: of the FLOPs to keep.
        seed: of weights, order and augmentation.
    """

    task: str
    method: str
    percent: int
    seed: int

    @property
    def name(self) -> str:
        """As in `vgg/hesso/30/0`."""
        return f"{self.task}/{self.method}/{self.percent}/{self.seed}"

    def matches(self, asked: str) -> bool:
        """Whether the name begins so, by whole parts, with or without the task."""
        parts, wanted = self.name.split("/"), asked.strip("/").split("/")
        return wanted in (parts[: len(wanted)], parts[1 : 1 + len(wanted)])


def planned() -> list[Run]:
    """All runs, the most telling first."""
    return list(dict.fromkeys(_everything()))


def _everything() -> Iterator[Run]:
    few = ("hesso", "dhspg", *PEERS)
    for percent in (30, 50, 15):
        yield from _compared("vgg", (*LEARNERS, *PEERS), percent)
    yield from _compared("gpt", few, 50)
    for percent in (70, 50):
        yield from _compared("minilm", few, percent)
    for task in ("resnet20", "cifar-vgg", "cifar-resnet20"):
        yield from _compared(task, (*LEARNERS, *PEERS), 30)
    yield from _compared("vgg", REGULARIZERS, 30)
    for seed in (1, 2):
        yield from _compared("vgg", (*LEARNERS, *PEERS), 30, seed)


def _compared(task: str, methods: Sequence[str], percent: int, seed: int = 0) -> Iterator[Run]:
    yield Run(task, "dense", 100, seed)
    for method in methods:
        yield Run(task, method, percent, seed)
