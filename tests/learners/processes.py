"""Two processes that train together, on the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed

SECONDS = 180
"""A job that takes longer hangs."""


class Pair:
    """Two processes of one gloo group, which wait for jobs.

    Args:
        pools: one for each process, by rank.
    """

    def __init__(self, pools: list[ProcessPoolExecutor]) -> None:
        self._pools = pools

    def run(self, job: Callable[..., Any], *args: Any) -> tuple[Any, Any]:
        """What a function, which can be imported, returns in each of them.

        Raises:
            TimeoutError: if one of them waits for the other in vain.
        """
        first, second = [pool.submit(job, *args) for pool in self._pools]
        return first.result(SECONDS), second.result(SECONDS)

    def kill(self) -> None:
        """End processes that hang."""
        for pool in self._pools:
            for process in (pool._processes or {}).values():
                process.kill()


@contextmanager
def two_processes(folder: Path) -> Iterator[Pair]:
    """Start two processes, and end them in any case.

    Args:
        folder: where they meet.
    """
    context = get_context("spawn")
    pools = [
        ProcessPoolExecutor(1, context, _join, (str(folder / "store"), rank)) for rank in (0, 1)
    ]
    pair = Pair(pools)
    try:
        yield pair
        pair.run(distributed.destroy_process_group)
    finally:
        pair.kill()
        for pool in pools:
            pool.shutdown()


def _join(store: str, rank: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
