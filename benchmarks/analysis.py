"""Time of analysis and of cutting, beside Torch-Pruning 1.6.1, and how it grows with the network.

    python benchmarks/analysis.py              # everything; writes docs/analysis.md
    python benchmarks/analysis.py tv_resnet50  # one or more models, printed

Processor time of one thread, in a process of its own for each model. Both tools get the same model
and inputs in the same process. Export and tracing of the forward pass are in Torch-Pruning's time
and are listed apart in ours.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from math import exp, log
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

TORCH_PRUNING = "torch-pruning==1.6.1"
LIMIT = 30
"""Seconds after which Torch-Pruning is stopped."""

MODELS = (
    "tv_resnet18", "tv_resnet50", "tv_vgg16_bn", "tv_mobilenet_v2", "tv_efficientnet_b0",
    "tv_densenet121", "tv_resnext50_32x4d", "tv_googlenet", "tv_shufflenet_v2_x1_0",
    "tv_convnext_tiny", "tv_vit_b_16", "tv_swin_t", "tv_maxvit_t",
    "tv_deeplabv3_mobilenet_v3_large", "timm_vit_tiny_patch16_224", "timm_mixer_s32_224",
    "timm_hrnet_w18_small", "timm_mobilevit_xxs", "hf_bert", "hf_gpt2", "hf_llama", "hf_t5",
    "hf_vit", "smp_unet", "small_unet",
)  # fmt: skip

LAYERS = (8, 16, 32, 64, 128)

HEADER = f"""# Speed of the analysis

Written by `python benchmarks/analysis.py`, which runs {TORCH_PRUNING.replace("==", " ")} beside
autoprune on the models of the zoo: seconds of processor time, one thread, both in one process.

* export: `torch.export` and reading the graph (Torch-Pruning traces within its own build);
* analysis: axis types, groups, guarantees and costs; beside Torch-Pruning's graph (dependencies
  between layers alone) and its graph with all groups, which is the same piece of work;
* cut: analysis, scores, choice and the cut network at half the channels; beside building
  Torch-Pruning's pruner and one step of it at the same ratio (L2 norm, outputs left alone).
"""

COLUMNS = """
| model | nodes | export | analysis | graph | ratio | groups | ratio | cut | step | ratio |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Measure the models named on the command line, or everything."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2])))
        return 0
    if sys.argv[1:2] == ["--llama"]:
        print(json.dumps(measure_llama(int(sys.argv[2]), meta="--meta" in sys.argv)))
        return 0
    from rich.progress import track

    names = sys.argv[1:] or MODELS
    rows = [child("--one", name) for name in track(names, description="models")]
    table = HEADER + COLUMNS + "".join(map(line, rows)) + summary(rows)
    if sys.argv[1:]:
        print(table)
        return 0
    growth = [child("--llama", str(n)) for n in track(LAYERS, description="layers")]
    large = child("--llama", "32", "--meta")
    table += growth_section(growth, large)
    plot(growth, ROOT / "docs" / "analysis.png")
    (ROOT / "docs" / "analysis.md").write_text(table)
    print(table)
    return 0


def child(*arguments: str) -> dict[str, Any]:
    """Run this file in a fresh process and read the JSON it prints last."""
    command = [sys.executable, "-W", "ignore", __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def seconds(action: Callable[[], object], repeats: int = 5) -> float:
    """The least processor time of a few runs; long ones run once."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        action()
        best = min(best, time.process_time() - start)
        if best > 1:
            break
    return best


def measure(name: str) -> dict[str, Any]:
    """Both tools on one model of the zoo."""
    import torch

    from tests.zoo.models import get

    torch.set_num_threads(1)
    row = get(name)
    model, inputs = row.build(), row.inputs()
    return {"name": name, **ours(model, inputs), **theirs(model, inputs)}


def ours(model: Any, inputs: Any) -> dict[str, Any]:
    """Seconds of the export, of the analysis, and of all that gives the cut network.

    Each run gets a graph of its own: the nodes of one remember what has been asked about them.
    """
    import copy
    from dataclasses import replace

    from autoprune.frameworks.torch.cut import cut_graph
    from autoprune.frameworks.torch.network import TorchNetwork
    from autoprune.frameworks.torch.trace import trace
    from autoprune.passes.pruning.analysed import analyse
    from autoprune.passes.pruning.choose import allocate, score_units
    from autoprune.passes.pruning.criteria.l2 import l2
    from autoprune.passes.pruning.request import DEFAULTS, WHOLE, Request
    from autoprune.passes.pruning.scope import movable_groups

    traced = trace(model, inputs)
    request = Request(("channels", 0.5), l2, multiple_of=1)
    fresh = [replace(traced, graph=copy.deepcopy(traced.graph)) for _ in range(5 + 3)]
    analyse(traced.graph, DEFAULTS)  # the first run imports

    def everything() -> None:
        traced = fresh.pop()
        analysis = analyse(traced.graph, DEFAULTS)
        weights = TorchNetwork(traced).weights(analysis.effective)
        movable = movable_groups(analysis, WHOLE, DEFAULTS)
        scored = score_units(analysis, weights, movable, request)
        kept = allocate(analysis, movable, scored, request)
        cut_graph(traced, analysis.typed, kept)

    return {
        "nodes": len(traced.graph.nodes),
        "export": seconds(lambda: trace(model, inputs), 1),
        "analysis": seconds(lambda: analyse(fresh.pop().graph, DEFAULTS), 5),
        "cut": seconds(everything, 3),
    }


def theirs(model: Any, inputs: Any) -> dict[str, Any]:
    """Seconds of Torch-Pruning's graph, and of its pruner with one step; or why there are none."""
    import copy

    import torch
    import torch_pruning
    from torch import nn

    given = dict(inputs) if isinstance(inputs, dict) else tuple(inputs)

    def graph() -> float:
        work = copy.deepcopy(model)
        start = time.process_time()
        built = torch_pruning.DependencyGraph().build_dependency(work, given)
        found["graph"] = min(found.get("graph", float("inf")), time.process_time() - start)
        layers = [nn.modules.conv._ConvNd, nn.Linear]
        for _ in built.get_all_groups(root_module_types=layers):
            pass
        return time.process_time() - start

    def step() -> float:
        work = copy.deepcopy(model)
        start = time.process_time()
        layers = [m for m in work.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
        pruner = torch_pruning.pruner.BasePruner(
            work, given, torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.5, ignored_layers=layers[-1:],
        )  # fmt: skip
        pruner.step()
        used = time.process_time() - start
        with torch.no_grad():  # a network that does not run has not been pruned
            work(**given) if isinstance(given, dict) else work(*given)
        return used

    found: dict[str, Any] = {}
    for key, action in (("groups", graph), ("step", step)):
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(LIMIT)
        try:
            found[key] = action()
            if found[key] < 1:
                found[key] = min(found[key], action(), action())
        except Exception as error:
            found[f"{key}_error"] = type(error).__name__
        finally:
            signal.alarm(0)
    return found


def _stop(*_: object) -> None:
    raise TimeoutError


def measure_llama(layers: int, *, meta: bool) -> dict[str, Any]:
    """Analysis of a Llama: of the 7B's widths without weights, or narrow with the given depth."""
    import torch

    import autoprune as ap
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()
    import transformers

    torch.set_num_threads(1)
    width, heads, inner, words = (4096, 32, 11008, 32000) if meta else (64, 4, 128, 100)
    config = transformers.LlamaConfig(
        hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, vocab_size=words, use_cache=False,
    )  # fmt: skip
    with torch.device("meta" if meta else "cpu"):
        model = transformers.LlamaForCausalLM(config).eval()
        inputs = {"input_ids": torch.zeros(1, 16, dtype=torch.long)}
    start = time.process_time()
    report = ap.inspect(model, inputs)
    return {
        "layers": layers,
        "params": report.before.params,
        "groups": len(report.groups),
        "total": time.process_time() - start,
        "analysis": report.analysis_seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def line(row: dict[str, Any]) -> str:
    """One row of the table."""

    def theirs(key: str, mine: float) -> str:
        if key in row:
            return f"{row[key]:.2f} | {row[key] / mine:.1f}x"
        if row.get(f"{key}_error") == "TimeoutError":
            return f"over {LIMIT} | over {LIMIT / mine:.0f}x"
        return f"{row.get(f'{key}_error', 'fails')} | "

    return (
        f"| {row['name']} | {row['nodes']} | {row['export']:.2f} | {row['analysis']:.4f} | "
        f"{theirs('graph', row['analysis'])} | {theirs('groups', row['analysis'])} | "
        f"{row['cut']:.3f} | "
        f"{theirs('step', row['cut'])} |\n"
    )


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def ratios(rows: list[dict[str, Any]], key: str, mine: tuple[str, ...]) -> list[float]:
    """How many times longer the other tool takes; where it was stopped, at least that."""
    found = []
    for row in rows:
        stopped = row.get(f"{key}_error") == "TimeoutError"
        if key in row or stopped:
            found.append(row.get(key, LIMIT) / sum(row[k] for k in mine))
    return found


def summary(rows: list[dict[str, Any]]) -> str:
    """What the table comes to."""
    text = f"\n{len(rows)} models; slowest analysis {max(r['analysis'] for r in rows):.3f} s.\n"
    for what, key, mine in (
        ("building its graph", "graph", "analysis"),
        ("finding its groups", "groups", "analysis"),
        ("its pruner and one step", "step", "cut"),
    ):
        plain = ratios(rows, key, (mine,))
        if plain:
            exported = geometric_mean(ratios(rows, key, (mine, "export")))
            text += (
                f"Torch-Pruning takes {geometric_mean(plain):.1f} times as long for {what} as we "
                f"for the {mine} in the geometric mean of {len(plain)} models, "
                f"{exported:.2f} times as long as with the export.\n"
            )
    return text + f"Where it was stopped after {LIMIT} s, that counts as its time.\n"


def growth_section(growth: list[dict[str, Any]], large: dict[str, Any]) -> str:
    """Depth against time, and the large model."""
    rows = "".join(
        f"| {g['layers']} | {g['groups']} | {g['analysis']:.3f} | "
        f"{g['analysis'] / g['layers'] * 1e3:.2f} | {g['total']:.1f} |\n"
        for g in growth
    )
    slope = log(growth[-1]["analysis"] / growth[0]["analysis"]) / log(
        growth[-1]["layers"] / growth[0]["layers"]
    )
    return f"""
## Growth with depth

A Llama of 8 to 128 layers. The time of the analysis grows with the power {slope:.2f} of the depth.

| layers | groups | analysis (s) | a layer (ms) | with the export (s) |
|---|---|---|---|---|
{rows}
![Seconds of analysis against layers](analysis.png)

## Large

A Llama with the widths of the 7B model ({large["params"] / 1e9:.1f} billion parameters,
{large["layers"]} layers, {large["groups"]} groups) on the meta device, without weights:
{large["total"]:.1f} s with the export, of which the analysis {large["analysis"]:.2f} s;
{large["memory"] / 1e9:.2f} GB of memory at most, torch included.
"""


def plot(growth: list[dict[str, Any]], path: Path) -> None:
    """Analysis against depth on doubly logarithmic axes, with a line of slope one."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    layers = [g["layers"] for g in growth]
    analysis = [g["analysis"] for g in growth]
    figure, axes = pyplot.subplots(figsize=(5, 3.5), layout="constrained")
    axes.loglog(layers, analysis, "o-", label="analysis")
    axes.loglog(layers, [analysis[0] * n / layers[0] for n in layers], "k:", label="linear")
    axes.set(xlabel="layers", ylabel="seconds", xticks=layers, xticklabels=layers)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    sys.exit(main())
