"""Runs in processes of one thread each, and what they show while they work."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing.queues import Queue
from pathlib import Path

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from benchmarks.training.results import Answer, Outcome, read_results
from benchmarks.training.runs import Run

NEWS_EVERY = 10
"""Steps."""


@dataclass(frozen=True)
class Setting:
    """What all runs of a command have in common.

    Attributes:
        results: the file of results.
        data: folder that data is fetched to.
        epochs: instead of those of the recipes, or None.
        again: repeat runs that have a result.
    """

    results: Path
    data: Path
    epochs: float | None = None
    again: bool = False


@dataclass(frozen=True)
class News:
    """How far a run is: steps done of so many, or none when it is over."""

    name: str
    done: int
    steps: int | None


def carry_out_all(runs: Sequence[Run], setting: Setting, jobs: int) -> Iterator[tuple[Run, Answer]]:
    """Carry out runs, several at a time, and show progress; they come as they are done."""
    if not runs:
        return
    context = multiprocessing.get_context("spawn")
    news: Queue[News | None] = context.Queue()
    with (
        _bars() as bars,
        ProcessPoolExecutor(
            jobs, context, _receive, (news,), max_tasks_per_child=1
        ) as pool,
    ):  # fmt: skip
        everything = bars.add_task("all runs", total=len(runs))
        reader = threading.Thread(target=_show, args=(news, bars), daemon=True)
        reader.start()
        futures: dict[Future[Answer], Run] = {
            pool.submit(_answer, run, setting): run for run in runs
        }
        try:
            for future in as_completed(futures):
                bars.advance(everything)
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            news.put(None)
            reader.join()


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )  # fmt: skip


def _show(news: Queue[News | None], bars: Progress) -> None:
    shown: dict[str, TaskID] = {}
    while (item := news.get()) is not None:
        if item.steps is None:
            if item.name in shown:
                bars.remove_task(shown.pop(item.name))
        elif item.name not in shown:
            shown[item.name] = bars.add_task(item.name, completed=item.done, total=item.steps)
        else:
            bars.update(shown[item.name], completed=item.done)


_news: Queue[News | None] | None = None
"""In a worker: where it reports to."""


def _receive(news: Queue[News | None]) -> None:
    global _news
    _news = news


def _tell(item: News) -> None:
    if _news is not None:
        _news.put(item)


def _answer(run: Run, setting: Setting) -> Answer:
    """In a worker: the result, or the first line of the error."""
    import torch

    from benchmarks.training.carry_out import carry_out

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = None if setting.again else read_results(setting.results).get(run.name)
    if isinstance(known, Outcome):
        return known  # another command was faster

    def advance(done: int, steps: int) -> None:
        if done % NEWS_EVERY == 0:
            _tell(News(run.name, done, steps))

    try:
        return carry_out(run, setting.data, setting.epochs, advance)
    except Exception as error:
        print(f"\n{run.name}\n{traceback.format_exc()}", file=sys.stderr)
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}"
    finally:
        _tell(News(run.name, 0, None))
