"""Prune real ONNX models at random and write docs/zoo_onnx.md.

python benchmarks/zoo_onnx.py               # all models
python benchmarks/zoo_onnx.py light_ hf_    # those whose names begin so, without writing files
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from rich.progress import track

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.onnx.zoo import EXPORTED, FILES, Examination, examine, export  # noqa: E402

HEADER = """# ONNX models

Half of the units of every exact group are chosen at random and cut, and the cut model is compared
with the model in which the same units are zeroed, both in ONNX Runtime without optimizations. The
result is then analysed once more. Written by `python benchmarks/zoo_onnx.py`.

The first rows are files inside Python packages; from `tv_` on, models of [the zoo](zoo.md)
exported by `torch.onnx.export`. The weights of the `light_` models are all equal (a shape and one
number), so there only sizes are tested.

* groups: z zero-invariant, f folded, m masked, c compensated, a approximate (not cut here);
* kept: share of parameters and FLOPs that stay when half of every exact group goes;
* error: largest relative difference between cut and zeroed outputs; the detector's outputs are
  sigmoids near zero, which ONNX Runtime's own optimizations change as much;
* analysis: seconds of processor time on one core, without running the model.

| model | opset | nodes | groups | params kept | FLOPs kept | error | analysis (s) | no rule for |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Examine the models named on the command line, or all of them."""
    prefixes = tuple(sys.argv[1:])
    done: list[Examination] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        rows: dict[str, Callable[[], Examination]] = {
            f.name: lambda f=f: examine(f.name, f.locate(), f.inputs) for f in FILES
        }
        for name in EXPORTED:
            rows[name] = lambda name=name: examine(name, export(name, Path(folder)))
        wanted = [name for name in rows if not prefixes or name.startswith(prefixes)]
        for name in track(wanted, description="pruning ONNX models"):
            try:
                done.append(rows[name]())
            except Exception:
                failed.append(name)
                traceback.print_exc()
            (Path(folder) / f"{name}.onnx").unlink(missing_ok=True)
    table = HEADER + "".join(f"{line(e)}\n" for e in done) + summary(done)
    if prefixes:
        print(table)
    else:
        (ROOT / "docs" / "zoo_onnx.md").write_text(table)
    for name in failed:
        print(f"FAILED {name}")
    return 1 if failed else 0


def line(e: Examination) -> str:
    """One row of the table."""
    groups = " ".join(f"{count}{guarantee[0]}" for guarantee, count in sorted(e.groups.items()))
    return (
        f"| {e.name} | {e.opset} | {e.nodes} | {groups or '-'} | {e.params:.0%} | {e.flops:.0%} "
        f"| {e.error:.0e} | {e.seconds:.3f} | {', '.join(e.pinned_by)} |"
    )


def summary(done: list[Examination]) -> str:
    """What the table comes to."""
    if not done:
        return ""
    return (
        f"\n{len(done)} models; worst error {max(e.error for e in done):.1e}; slowest analysis "
        f"{max(e.seconds for e in done):.3f} s.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
