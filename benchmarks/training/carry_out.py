"""How a run is carried out and measured."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

import autoprune as ap
from benchmarks.training.loop import Trainer
from benchmarks.training.methods import METHODS
from benchmarks.training.results import Outcome
from benchmarks.training.runs import Run
from benchmarks.training.task import Task
from benchmarks.training.tasks import TASKS

TOLERANCE = 0.01
"""By which the share of FLOPs may miss what was asked for."""

Advance = Callable[[int, int], None]
"""Called with the steps done and the steps in all."""


def carry_out(run: Run, folder: Path, epochs: float | None, advance: Advance) -> Outcome:
    """Train as a run in the list says.

    Args:
        run: what to do.
        folder: where data is fetched to.
        epochs: instead of those of the recipe, or None.
        advance: told of every step.

    Raises:
        FileNotFoundError: if the data cannot be had.
        FloatingPointError: if the loss is not a finite number.
        ValueError: if the network that comes out does not have the FLOPs asked for.
    """
    task = TASKS[run.task]
    if epochs is not None:
        task = dataclasses.replace(task, recipe=dataclasses.replace(task.recipe, epochs=epochs))
    return train_and_measure(run, task, folder, advance)


def train_and_measure(run: Run, task: Task, folder: Path, advance: Advance) -> Outcome:
    """The same for any task; the run's name of a task is not looked at."""
    data = task.load(folder)
    torch.manual_seed(run.seed)
    network = task.build()
    before = ap.inspect(network, data.example).before
    trainer = Trainer(task, data, run.seed, advance)
    start = time.process_time()
    network = METHODS[run.method](trainer, network, run.percent / 100)
    seconds = time.process_time() - start
    # One counter for all methods: the cost of the network that came out, analysed afresh.
    after = ap.inspect(network, data.example).before
    flops = after.flops / before.flops
    if abs(flops - run.percent / 100) > TOLERANCE:
        raise ValueError(f"{flops:.1%} of the FLOPs are left, not {run.percent} %")
    return Outcome(
        score=trainer.test(network),
        flops=flops,
        params=after.params / before.params,
        epochs=task.recipe.epochs,
        seconds=seconds,
        curve=tuple(trainer.curve),
    )
