"""The document made of the results: a table for each task, and two figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.training.plots import plot_budgets, plot_curves
from benchmarks.training.results import Answer, Outcome
from benchmarks.training.runs import Run
from benchmarks.training.task import Task
from benchmarks.training.tasks import TASKS

HEADER = """# Training once, measured

Written by `python benchmarks/train_once.py`, which keeps what it finds in
benchmarks/results/train_once.json and goes on where it was stopped.

Every method gets the same initial weights, data, augmentation and total number of epochs, and its
own learning rate schedule (warm-up, then a cosine to zero, in each phase):

* dense: trained in one go, nothing cut;
* hesso, dhspg, hesso_cric, hspg, and the regularizers group_lasso, wgsef, polarization and
  turbo_vbi: trained in one go with one line changed, then cut where the weights are zero;
* one-shot: 60 % of the steps dense, `ap.prune` by magnitude, 40 % fine-tuning;
* random: the same with units drawn at random;
* torch-pruning: 60 % of the steps with the group norm regularizer of Torch-Pruning 1.6.1, its
  pruning, 40 % fine-tuning.

FLOPs are counted by autoprune for all of them, in the network that came out, and meet what was
asked for within 1 % of the dense network's. *To dense*: mean difference to the dense network
trained with the same seed. Scores are those of the last step. Learning rates were chosen for dense
training and for the peers, by short trials on the same test examples; learners have the dense
network's, and default settings. The standard error of an accuracy is 0.25 points on the 10,000
test images and 0.8 on the 2,114 reviews: smaller differences of single seeds mean little. Minutes
are processor time of one thread, tests after each epoch included.
"""

COLUMNS = """
| FLOPs asked | method | {metric} | to dense | FLOPs | params | seeds | minutes |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Line:
    """What the seeds of a method at a budget come to together."""

    percent: int
    method: str
    outcomes: tuple[Outcome, ...]
    to_dense: float | None
    """Mean difference of the scores, or None without a dense network of the same seeds."""

    @property
    def score(self) -> float:
        """Mean over the seeds."""
        return fmean(outcome.score for outcome in self.outcomes)


def write_page(folder: Path, answers: Mapping[Run, Answer]) -> None:
    """Write train_once.md and its figures into a folder."""
    done = {run: answer for run, answer in answers.items() if isinstance(answer, Outcome)}
    tables = {
        task: lines(run_outcomes)
        for name, task in TASKS.items()
        if (run_outcomes := {run: o for run, o in done.items() if run.task == name})
    }
    text = HEADER
    if done:
        plot_budgets(folder / "train_once.png", _points(tables))
        text += "\n![Scores against FLOPs](train_once.png)\n"
    curves = {
        run.method: outcome.curve
        for run, outcome in done.items()
        if run.task == "vgg" and run.percent in (30, 100) and run.seed == 0
    }
    if curves:
        plot_curves(folder / "train_once_curves.png", curves)
        text += "\n## Learning curves\n\nVGG-small at 30 % of the FLOPs, seed 0.\n"
        text += "\n![Accuracy after each epoch](train_once_curves.png)\n"
    for task, rows in tables.items():
        text += f"\n## {task.title}\n\n{_recipe(task)}\n"
        text += COLUMNS.format(metric=task.metric) + "".join(map(_row, rows))
    failures = {run: answer for run, answer in answers.items() if isinstance(answer, str)}
    if failures:
        text += "\n## Failed\n\n"
        text += "".join(f"* {run.name}: {reason}\n" for run, reason in failures.items())
    (folder / "train_once.md").write_text(text)


def lines(outcomes: Mapping[Run, Outcome]) -> list[Line]:
    """One for each budget and method of a task: less and less is kept, the best method first."""
    found: dict[tuple[int, str], dict[int, Outcome]] = {}
    for run, outcome in outcomes.items():
        found.setdefault((run.percent, run.method), {})[run.seed] = outcome
    dense = found.get((100, "dense"), {})
    rows = [
        Line(percent, method, tuple(seeds.values()), _difference(seeds, dense))
        for (percent, method), seeds in found.items()
    ]
    higher_is_better = all(TASKS[run.task].metric == "accuracy" for run in outcomes)
    return sorted(
        rows, key=lambda row: (-row.percent, -row.score if higher_is_better else row.score)
    )


def _difference(seeds: Mapping[int, Outcome], dense: Mapping[int, Outcome]) -> float | None:
    if not seeds.keys() <= dense.keys():
        return None
    return fmean(seeds[seed].score - dense[seed].score for seed in seeds)


def _recipe(task: Task) -> str:
    recipe = task.recipe
    return (
        f"{recipe.epochs:g} epochs of batches of {recipe.batch}; learning rate {recipe.rate:g}, "
        f"{recipe.tuning_rate:g} for fine-tuning."
    )


def _row(line: Line) -> str:
    scores = [outcome.score for outcome in line.outcomes]
    spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
    difference = "" if line.to_dense is None or line.percent == 100 else f"{line.to_dense:+.2f}"
    flops, params, minutes = (
        fmean(getattr(outcome, name) for outcome in line.outcomes)
        for name in ("flops", "params", "seconds")
    )
    return (
        f"| {line.percent} % | {line.method} | {line.score:.2f}{spread} | {difference} "
        f"| {flops:.1%} | {params:.1%} | {len(scores)} | {minutes / 60:.0f} |\n"
    )


def _points(
    tables: Mapping[Task, Iterable[Line]],
) -> dict[tuple[str, str], dict[str, Sequence[tuple[float, float]]]]:
    """By title and metric of the task, then by method: shares of FLOPs in percent, and scores."""
    points: dict[tuple[str, str], dict[str, list[tuple[float, float]]]] = {}
    for task, rows in tables.items():
        methods = points.setdefault((task.title, task.metric), {})
        for row in rows:
            flops = 100 * fmean(outcome.flops for outcome in row.outcomes)
            methods.setdefault(row.method, []).append((flops, row.score))
    return points
