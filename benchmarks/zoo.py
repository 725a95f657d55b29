"""Examine the models of the zoo, write docs/zoo.md and what tests/zoo expects.

    python benchmarks/zoo.py                    # all models
    python benchmarks/zoo.py tv_ hf_bert        # those whose names begin so
    python benchmarks/zoo.py --missing          # those without a result, to go on after a stop
    python benchmarks/zoo.py --seeds 1 --no-files   # a quick look

Results are kept in benchmarks/results/zoo.json, row by row as they come; the table is made of
those. A model that fails is a row of the table too, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from functools import partial
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
RESULTS = ROOT / "benchmarks" / "results" / "zoo.json"
PROCESSES = 2
ROWS_PER_PROCESS = 20
"""Then a fresh one takes over: exporters and caches hold on to memory."""

HEADER = """# The zoo

Every model is exported, and half of the units of every exact group are chosen at random and cut,
once for each seed; the cut network is compared with the network in which the same units are zeroed.
The first seed keeps the class of the model where possible, the others cut every exact group.
The result is deep-copied, trained for a step, pruned once more, and, where the column ONNX says
something, saved and loaded and exported to ONNX, where ONNX Runtime must agree with torch. Weights
are random, widths and images are small. Written by `make zoo` (`python benchmarks/zoo.py`), which
keeps what it finds in benchmarks/results/zoo.json.

* groups: z zero-invariant, f folded, m masked, c compensated, a approximate (not cut here);
* prunable: share of the parameters that goes if a single unit of every exact group stays;
* params, FLOPs: share that stays when half of every exact group goes;
* error: largest relative difference between cut and zeroed outputs (float32);
* seconds: processor time of the analysis on one core, after the export.
"""

COLUMNS = """
| model | notes | groups | prunable | params | FLOPs | seeds | error | ONNX | seconds | result |
|---|---|---|---|---|---|---|---|---|---|---|
"""

Answer = Examination | str


def main() -> int:
    """Examine the models named on the command line, or all of them."""
    asked = arguments()
    known = read_results()
    names = [
        row.name
        for row in ZOO
        if (not asked.names or row.name.startswith(tuple(asked.names)))
        and not (asked.missing and isinstance(known.get(row.name), Examination))
    ]
    how = (tuple(range(asked.seeds)), not asked.no_files)
    failed = {}
    for name, answer in track(_answers(names, how), "pruning the zoo", total=len(names)):
        for loss in losses({name: answer}, json.loads(EXPECTED.read_text())):
            print(f"LESS {loss}")
        if isinstance(answer, str):
            failed[name] = answer
        known[name] = answer
        write_results(known)
    (ROOT / "docs" / "zoo.md").write_text(page(known))
    write_expected(EXPECTED, known)
    for name, answer in failed.items():
        print(f"FAILED {name}: {answer}")
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(description="Examine the models of the zoo.")
    parser.add_argument("names", nargs="*", help="how the names of the models begin")
    parser.add_argument("--missing", action="store_true", help="only models without a result")
    parser.add_argument("--seeds", type=int, default=3, help="random choices for each model")
    parser.add_argument("--no-files", action="store_true", help="neither save nor export")
    return parser.parse_args()


def read_results() -> dict[str, Answer]:
    """Results of models that are still in the zoo, in its order."""
    if not RESULTS.exists():
        return {}
    stored = json.loads(RESULTS.read_text())
    return {
        row.name: stored[row.name]
        if isinstance(stored[row.name], str)
        else Examination(**stored[row.name])
        for row in ZOO
        if row.name in stored
    }


def write_results(answers: Mapping[str, Answer]) -> None:
    """All results, one a line."""
    rows = (
        f"{json.dumps(row.name)}: "
        + json.dumps(a if isinstance(a := answers[row.name], str) else dataclasses.asdict(a))
        for row in ZOO
        if row.name in answers
    )
    RESULTS.write_text("{\n" + ",\n".join(rows) + "\n}\n")


How = tuple[tuple[int, ...], bool]
"""Seeds, and whether files are written."""


def _answers(names: list[str], how: How) -> Iterable[tuple[str, Answer]]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, _be_quiet, maxtasksperchild=ROWS_PER_PROCESS) as pool:
        yield from pool.imap_unordered(partial(_answer, how), names)


def _be_quiet() -> None:
    """What models and exporters warn of is not what is examined here."""
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)


def _answer(how: How, name: str) -> tuple[str, Answer]:
    seeds, files = how
    try:
        return name, examine(get(name), seeds, files=files)
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
        return f"| {row.name} | {row.notes} | FAILED: {cell(answer)} | | | | | | | | |\n"
    e = answer
    groups = " ".join(f"{count}{guarantee[0]}" for guarantee, count in sorted(e.groups.items()))
    onnx = e.onnx if e.onnx in ("equal", "") else "no"
    result = e.module if not e.reason else f"{e.module}: {cell(e.reason)}"
    return (
        f"| {e.name} | {row.notes} | {groups or '-'} | {e.prunable:.0%} | {e.params:.0%} "
        f"| {e.flops:.0%} | {e.seeds} | {e.error:.0e} | {onnx} | {e.seconds:.3f} | {result} |\n"
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
