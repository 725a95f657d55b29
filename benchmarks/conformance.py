"""Prune networks around every operator of torch and ONNX, and write docs/conformance.md.

    python benchmarks/conformance.py                  # both frameworks
    python benchmarks/conformance.py torch            # one of them, and its section of the page
    python benchmarks/conformance.py torch fft linalg # operators whose names begin so; no page

The exit status is 1 if an operator fails.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import multiprocessing
import os
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from rich.progress import track  # noqa: E402

from tests.conformance.outcome import PAGE, Outcome, section, write_section  # noqa: E402

SUITES = {
    "torch": "tests.conformance.torch_operators",
    "onnx": "tests.conformance.onnx_operators",
}
"""Modules with `TITLE`, `INTRODUCTION`, `names()` and `examine(name)`, which gives an `Outcome`."""

OPERATORS_PER_PROCESS = 50
"""Then a fresh one takes over: exporters and caches hold on to memory."""


def main() -> int:
    """Examine the frameworks named on the command line, or all of them."""
    parser = argparse.ArgumentParser(description="Prune networks around every operator.")
    parser.add_argument("suite", nargs="?", choices=list(SUITES), help="left out, all of them")
    parser.add_argument("names", nargs="*", help="how the names of the operators begin")
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    failed = 0
    for suite in [asked.suite] if asked.suite else SUITES:
        module = importlib.import_module(SUITES[suite])
        chosen = [n for n in module.names() if not asked.names or n.startswith(tuple(asked.names))]
        outcomes = _examine_all(suite, chosen, asked.processes)
        if asked.names:
            for outcome in outcomes:
                print(f"{outcome.operator}: {outcome.result} {outcome.reason}".strip())
        else:
            write_section(PAGE, module.TITLE, section(module.INTRODUCTION, outcomes))
        for outcome in outcomes:
            if outcome.result == "failed":
                print(f"FAILED {outcome.operator}: {outcome.reason}")
                failed += 1
    return 1 if failed else 0


def _examine_all(suite: str, names: Sequence[str], processes: int) -> list[Outcome]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes, _be_quiet, maxtasksperchild=OPERATORS_PER_PROCESS) as pool:
        answers = pool.imap(partial(_examine, SUITES[suite]), names)
        return list(track(answers, f"operators of {suite}", total=len(names)))


def _be_quiet() -> None:
    """What exporters warn of is not what is examined here."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _examine(module: str, name: str) -> Outcome:
    outcome: Outcome = importlib.import_module(module).examine(name)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
