"""Prune every model of the zoo at random and write docs/zoo.md.

    python benchmarks/zoo.py                 # all models
    python benchmarks/zoo.py tv_ hf_bert     # those whose names begin so, without writing files

The table's numbers become what tests/zoo expects (tests/zoo/expected.json).
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

import torch
from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.zoo.examine import Examination, examine  # noqa: E402
from tests.zoo.models import ZOO  # noqa: E402

HEADER = """# The zoo

Every model is exported, half of the units of every exact group are chosen at random and cut, and
the cut network is compared with the network in which the same units are zeroed. The result then
runs a backward pass, is deep-copied and loads its state. Written by `make zoo`.

* groups: z zero-invariant, m masked, c compensated, a approximate (these are not cut here);
* kept: share of parameters and FLOPs that stay when half of every exact group goes;
* error: largest relative difference between cut and zeroed outputs (float32);
* analysis: seconds of processor time on one core, after the export.

| model | groups | params kept | FLOPs kept | error | analysis (s) | result |
|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Examine the models named on the command line, or all of them."""
    torch.set_num_threads(1)
    prefixes = tuple(sys.argv[1:])
    rows = [row for row in ZOO if not prefixes or row.name.startswith(prefixes)]
    done: list[Examination] = []
    failed: list[str] = []
    for row in track(rows, description="pruning the zoo"):
        try:
            done.append(examine(row))
        except Exception:
            failed.append(row.name)
            traceback.print_exc()
    table = HEADER + "".join(f"{line(e)}\n" for e in done) + summary(done)
    if prefixes:
        print(table)
    else:
        (ROOT / "docs" / "zoo.md").write_text(table)
        expected = {e.name: {"params": round(e.params, 4), "module": e.module} for e in done}
        text = json.dumps(expected, indent=1, sort_keys=True) + "\n"
        (ROOT / "tests" / "zoo" / "expected.json").write_text(text)
    for name in failed:
        print(f"FAILED {name}")
    return 1 if failed else 0


def line(e: Examination) -> str:
    """One row of the table."""
    groups = " ".join(f"{count}{guarantee[0]}" for guarantee, count in sorted(e.groups.items()))
    result = e.module if not e.reason else f"{e.module}: {e.reason.replace('|', '/')[:110]}"
    return (
        f"| {e.name} | {groups or '-'} | {e.params:.0%} | {e.flops:.0%} | {e.error:.0e} "
        f"| {e.seconds:.3f} | {result} |"
    )


def summary(done: list[Examination]) -> str:
    """What the table comes to."""
    if not done:
        return ""
    own = sum(e.module == "same class" for e in done)
    return (
        f"\n{len(done)} models; worst error {max(e.error for e in done):.1e}; slowest analysis "
        f"{max(e.seconds for e in done):.3f} s; {own} of the same class, {len(done) - own} "
        "GraphModules.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
