"""Examine every model of the zoo, write docs/zoo.md and what tests/zoo expects.

    python benchmarks/zoo.py                 # all models
    python benchmarks/zoo.py tv_ hf_bert     # those whose names begin so, without writing files

A model that fails is a row of the table too, and the exit status is 1.
"""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from rich.progress import track  # noqa: E402

from tests.zoo.examine import Examination, examine  # noqa: E402
from tests.zoo.models import SOURCES, ZOO, ZooModel, get  # noqa: E402

EXPECTED = ROOT / "tests" / "zoo" / "expected.json"
SEEDS = (0, 1, 2)
PROCESSES = 2
ROWS_PER_PROCESS = 20
"""Then a fresh one takes over: exporters and caches hold on to memory."""

HEADER = """# The zoo

Every model is exported, and half of the units of every exact group are chosen at random and cut,
three times over; the cut network is compared with the network in which the same units are zeroed.
The result is deep-copied, trained for a step, saved and loaded, pruned once more, and exported to
ONNX, where ONNX Runtime must agree with torch. Weights are random, widths and images are small.
Written by `make zoo`.

* groups: z zero-invariant, m masked, c compensated, a approximate (these are not cut here);
* prunable: share of the parameters that goes if a single unit of every exact group stays;
* params, FLOPs: share that stays when half of every exact group goes;
* error: largest relative difference between cut and zeroed outputs (float32);
* analysis: seconds of processor time on one core, after the export.
"""

COLUMNS = """
| model | construction | groups | prunable | params | FLOPs | error | analysis (s) | result |
|---|---|---|---|---|---|---|---|---|
"""

Answer = Examination | str


def main() -> int:
    """Examine the models named on the command line, or all of them."""
    prefixes = tuple(sys.argv[1:])
    names = [row.name for row in ZOO if not prefixes or row.name.startswith(prefixes)]
    answers = dict(track(_answers(names), "pruning the zoo", total=len(names)))
    text = page(answers)
    if prefixes:
        print(text)
    else:
        for loss in losses(answers, json.loads(EXPECTED.read_text())):
            print(f"LESS {loss}")
        (ROOT / "docs" / "zoo.md").write_text(text)
        write_expected(EXPECTED, answers)
    failed = [name for name in names if isinstance(answers[name], str)]
    for name in failed:
        print(f"FAILED {name}: {answers[name]}")
    return 1 if failed else 0


def _answers(names: list[str]) -> Iterable[tuple[str, Answer]]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, _be_quiet, maxtasksperchild=ROWS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(_answer, names)


def _be_quiet() -> None:
    """What models and exporters warn of is not what is examined here."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _answer(name: str) -> tuple[str, Answer]:
    try:
        return name, examine(get(name), SEEDS, files=True)
    except Exception as error:
        print(f"\n{name}\n{traceback.format_exc()}", file=sys.stderr)
        lines = str(error).strip().splitlines()
        return name, f"{type(error).__name__}: {lines[0] if lines else ''}"
    finally:
        gc.collect()


def write_expected(path: Path, answers: Mapping[str, Answer]) -> None:
    """What tests hold every row to, so that a loss is noticed."""
    expected = {
        name: {"params": round(a.params, 4), "prunable": round(a.prunable, 4), "module": a.module}
        for name, a in answers.items()
        if not isinstance(a, str)
    }
    path.write_text(json.dumps(expected, indent=1, sort_keys=True) + "\n")


def losses(answers: Mapping[str, Answer], expected: Mapping[str, Any]) -> list[str]:
    """Models of which less is prunable, or that come out of another class, than when last run."""
    found = []
    for name, answer in answers.items():
        if isinstance(answer, str) or name not in expected:
            continue
        before = expected[name]
        if answer.prunable < before["prunable"] - 0.01:
            found.append(f"{name}: {before['prunable']:.0%} prunable before, {answer.prunable:.0%}")
        if (answer.module, before["module"]) == ("GraphModule", "same class"):
            found.append(f"{name}: a GraphModule now, {answer.reason}")
    return found


def page(answers: Mapping[str, Answer]) -> str:
    """The whole document."""
    parts = [HEADER, summary(answers)]
    for source, rows in SOURCES.items():
        asked = [row for row in rows if row.name in answers]
        if asked:
            parts.append(f"\n## {source[0].upper()}{source[1:]} ({len(asked)})\n{COLUMNS}")
            parts += [line(row, answers[row.name]) for row in asked]
    return "".join(parts) + remarks(answers)


def line(row: ZooModel, answer: Answer) -> str:
    """One row of the table."""
    if isinstance(answer, str):
        return f"| {row.name} | {row.notes} | FAILED: {cell(answer)} | | | | | | |\n"
    e = answer
    groups = " ".join(f"{count}{guarantee[0]}" for guarantee, count in sorted(e.groups.items()))
    result = e.module if not e.reason else f"{e.module}: {cell(e.reason)}"
    return (
        f"| {e.name} | {row.notes} | {groups or '-'} | {e.prunable:.0%} | {e.params:.0%} "
        f"| {e.flops:.0%} | {e.error:.0e} | {e.seconds:.3f} | {result} |\n"
    )


def cell(text: str) -> str:
    """A text that fits a cell."""
    text = text.replace("|", "/").replace("\n", " ")
    return text if len(text) <= 110 else text[:109] + "…"


@dataclass(frozen=True)
class Totals:
    """What the table comes to."""

    models: int
    failed: int
    exact: int
    approximate: int
    worst: float
    prunable: float
    seconds: float
    slowest: float
    own: int
    onnx: int
    exported: int


def totals(answers: Mapping[str, Answer]) -> Totals:
    """Counts and extremes over the models that did not fail; raises ValueError without any."""
    done = [a for a in answers.values() if not isinstance(a, str)]
    groups = [g for a in done for g in a.groups.items()]
    approximate = sum(count for guarantee, count in groups if guarantee == "approximate")
    return Totals(
        models=len(answers),
        failed=len(answers) - len(done),
        exact=sum(count for _, count in groups) - approximate,
        approximate=approximate,
        worst=max(a.error for a in done),
        prunable=median(a.prunable for a in done),
        seconds=median(a.seconds for a in done),
        slowest=max(a.seconds for a in done),
        own=sum(a.module == "same class" for a in done),
        onnx=sum(a.onnx == "equal" for a in done),
        exported=sum(a.onnx != "" for a in done),
    )


def summary(answers: Mapping[str, Answer]) -> str:
    """The totals in words."""
    if all(isinstance(a, str) for a in answers.values()):
        return ""
    t = totals(answers)
    graphs = t.models - t.failed - t.own
    return f"""
{t.models} models, {t.failed} failed. {t.exact} exact groups and {t.approximate} approximate ones;
worst error {t.worst:.1e}. In the median {t.prunable:.0%} of the parameters are prunable. Analysis
takes {t.seconds:.3f} s in the median, {t.slowest:.3f} s at most. {t.own} results are of the same
class, {graphs} are GraphModules. ONNX Runtime agrees with torch on {t.onnx} of {t.exported}.
"""


def remarks(answers: Mapping[str, Answer]) -> str:
    """Why little is prunable, and what cannot be exported to ONNX."""
    done = [a for a in answers.values() if not isinstance(a, str)]
    text = ""
    little = {a.name: f"{a.prunable:.0%}; {a.kept}" for a in done if a.kept}
    if little:
        text += "\n## Little prunable\n\nBelow half of the parameters, and the axis that keeps most"
        text += " of them:\n\n" + _items(little)
    unable = {a.name: a.onnx for a in done if a.onnx not in ("equal", "")}
    if unable:
        text += "\n## No ONNX\n\nThe exporter fails on the unpruned model just the same:\n\n"
        text += _items(unable)
    return text


def _items(remarks: Mapping[str, str]) -> str:
    order = {row.name: place for place, row in enumerate(ZOO)}
    return "".join(f"* {name}: {remarks[name]}\n" for name in sorted(remarks, key=order.get))


if __name__ == "__main__":
    sys.exit(main())
