"""Peak memory of `ap.prune`, as a multiple of the model's weights; writes docs/memory.md.

python -m benchmarks.memory            # all models
python -m benchmarks.memory gpt2       # these, printed and not written
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def gpt2() -> tuple[Any, Any]:
    """GPT-2 small with random weights, 0.5 GB, on 32 tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(use_cache=False)
    return GPT2LMHeadModel(config).eval(), {"input_ids": torch.randint(0, 50257, (1, 32))}


def resnet50() -> tuple[Any, Any]:
    """ResNet-50 of torchvision, 0.1 GB, on one small image."""
    import torch

    from tests.zoo import shim  # noqa: F401  (torchvision without its compiled operators)
    from tests.zoo.models import get

    return get("tv_resnet50").build().eval(), torch.randn(1, 3, 64, 64)


PAGE = Path(__file__).resolve().parents[1] / "docs" / "memory.md"

HEADER = """# Memory

What is in memory at most during `ap.prune`, beyond what was there before the call, as a multiple of
the weights (MB) of the model. Each model is pruned in a process of its own, once a small one has
been, so that what is imported does not count. A module was there before, and comes on top; an ONNX
file is read during the call, and counts once. Written by `python -m benchmarks.memory`.

| model | of | FLOPs kept | weights | peak | times |
|---|---|---|---|---|---|
"""

SHARES = (0.5, 0.9)
"""Shares of the FLOPs that are kept."""

MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {"gpt2": gpt2, "tv_resnet50": resnet50}


def in_memory(kind: str) -> int:
    """Bytes of this process in memory: `VmRSS` now, `VmHWM` at most."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"there is no {kind}")


def export(name: str, path: Path) -> None:
    """Write a model as ONNX."""
    import torch

    model, inputs = MODELS[name]()
    given = ((), inputs) if isinstance(inputs, dict) else ((inputs,), {})
    torch.onnx.export(model, given[0], str(path), kwargs=given[1], dynamo=True, verbose=False)


def measure(name: str, flops: float, path: Path | None) -> dict[str, float]:
    """Weights of a model, and what is in memory at most while it is pruned, in bytes.

    With a path, of the ONNX file there.
    """
    import gc

    import torch
    from torch import nn

    import autoprune as ap

    torch.set_num_threads(1)
    small = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 2))
    ap.prune(small, torch.randn(1, 8), flops=0.5)
    model: Any = path
    inputs = None
    if path is None:
        model, inputs = MODELS[name]()
        with torch.no_grad():
            model(**inputs) if isinstance(inputs, dict) else model(inputs)
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
    else:
        weights = sum(file.stat().st_size for file in path.parent.iterdir())
        warm = path.with_name("warm.onnx")
        torch.onnx.export(small, (torch.randn(1, 8),), str(warm), dynamo=True, verbose=False)
        ap.prune(warm, flops=0.5)
    gc.collect()
    before = in_memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    ap.prune(model, inputs, flops=flops)
    return {"weights": weights, "peak": in_memory("VmHWM") - before}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--here", choices=("export", "measure"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--flops", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here == "export":
        export(options.models[0], options.file)
        return
    if options.here == "measure":
        print(json.dumps(measure(options.models[0], options.flops, options.file)))
        return
    page = HEADER
    for name in options.models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            file = ("--file", f"{folder}/model.onnx")
            in_process(name, "--here", "export", *file)
            for form, of_form in (("torch", ()), ("ONNX", file)):
                for flops in SHARES:
                    row = (name, "--here", "measure", "--flops", str(flops), *of_form)
                    found = json.loads(in_process(*row))
                    weights, peak = found["weights"], found["peak"]
                    page += (
                        f"| {name} | {form} | {flops} | {weights / 1e6:.0f} | {peak / 1e6:.0f} "
                        f"| {peak / weights:.2f} |\n"
                    )
    print(page)
    if not options.models:
        PAGE.write_text(page)


def in_process(*arguments: str) -> str:
    """The last line that this module prints in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return (done.stdout.strip().splitlines() or [""])[-1]


if __name__ == "__main__":
    main()
