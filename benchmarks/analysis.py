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
LIMIT = 120
"""Seconds after which Torch-Pruning is stopped."""

MODELS = (
    "tv_resnet18", "tv_resnet50", "tv_vgg16_bn", "tv_mobilenet_v2", "tv_mobilenet_v3_large",
    "tv_efficientnet_b0", "tv_densenet121", "tv_resnext50_32x4d", "tv_regnet_x_400mf",
    "tv_googlenet", "tv_inception_v3", "tv_shufflenet_v2_x1_0", "tv_convnext_tiny", "tv_vit_b_16",
    "tv_swin_t", "tv_maxvit_t", "tv_deeplabv3_mobilenet_v3_large", "tv_r3d_18",
    "timm_vit_tiny_patch16_224", "timm_mixer_s32_224", "timm_hrnet_w18_small",
    "timm_efficientvit_b0", "timm_mobilevit_xxs", "timm_nf_regnet_b0", "timm_res2net50_26w_4s",
    "hf_bert", "hf_gpt2", "hf_llama", "hf_t5", "hf_vit", "hf_whisper", "smp_unet",
    "small_unet", "small_super_resolver",
)  # fmt: skip

LAYERS = (8, 16, 32, 64, 128)

HEADER = f"""# Speed of the analysis

Written by `python benchmarks/analysis.py`, which runs {TORCH_PRUNING.replace("==", " ")} beside
autoprune on the models of the zoo: seconds of processor time, one thread, both in one process.

* export: `torch.export` and reading the graph (Torch-Pruning traces within its own build);
* analysis: axis types, groups, guarantees and costs; beside building Torch-Pruning's graph;
* cut: analysis, scores, choice and the cut network at half the channels; beside building
  Torch-Pruning's pruner and one step of it at the same ratio (L2 norm, outputs left alone).
"""

COLUMNS = """
| model | nodes | export | analysis | its graph | ratio | cut | its pruner + step | ratio |
|---|---|---|---|---|---|---|---|---|
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
    """Seconds of the export, of the analysis, and of all that gives the cut network."""
    from autoprune.backends.torch import cut_graph
    from autoprune.frontends.torch import trace
    from autoprune.passes.criteria import l2
    from autoprune.pipeline import DEFAULTS, Request, allowed_groups, analyse, choose
    from autoprune.torch_network import _weights

    traced = trace(model, inputs)
    request = Request(("channels", 0.5), l2, multiple_of=1)
    analyse(traced.graph, DEFAULTS)  # the first run imports

    def everything() -> None:
        analysis = analyse(traced.graph, DEFAULTS)
        allowed, _ = allowed_groups(analysis, (), DEFAULTS)
        cut_graph(traced, analysis.typed, choose(analysis, _weights(traced), allowed, (), request))

    return {
        "nodes": len(traced.graph.nodes),
        "export": seconds(lambda: trace(model, inputs), 1),
        "analysis": seconds(lambda: analyse(traced.graph, DEFAULTS)),
        "cut": seconds(everything, 3),
    }


def theirs(model: Any, inputs: Any) -> dict[str, Any]:
    """Seconds of Torch-Pruning's graph, and of its pruner with one step; or why there are none."""
    import copy

    import torch
    import torch_pruning
    from torch import nn

    given = dict(inputs) if isinstance(inputs, dict) else tuple(inputs)

    def graph() -> None:
        torch_pruning.DependencyGraph().build_dependency(copy.deepcopy(model), given)

    def step() -> None:
        work = copy.deepcopy(model)
        layers = [m for m in work.modules() if isinstance(m, nn.Linear | nn.modules.conv._ConvNd)]
        pruner = torch_pruning.pruner.BasePruner(
            work, given, torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=0.5, ignored_layers=layers[-1:],
        )  # fmt: skip
        pruner.step()
        with torch.no_grad():
            work(**given) if isinstance(given, dict) else work(*given)

    found: dict[str, Any] = {}
    for key, action, repeats in (("graph", graph, 3), ("step", step, 1)):
        signal.signal(signal.SIGALRM, _stop)
        signal.alarm(LIMIT)
        try:
            found[key] = seconds(action, repeats)
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
        if key not in row:
            return f"{row[f'{key}_error']} | "
        return f"{row[key]:.2f} | {row[key] / mine:.0f}x"

    return (
        f"| {row['name']} | {row['nodes']} | {row['export']:.2f} | {row['analysis']:.4f} | "
        f"{theirs('graph', row['analysis'])} | {row['cut']:.3f} | "
        f"{theirs('step', row['cut'])} |\n"
    )


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def summary(rows: list[dict[str, Any]]) -> str:
    """What the table comes to."""
    built = [r for r in rows if "graph" in r]
    stepped = [r for r in rows if "step" in r]
    text = f"\n{len(rows)} models; slowest analysis {max(r['analysis'] for r in rows):.3f} s."
    if built:
        ratio = geometric_mean([r["graph"] / r["analysis"] for r in built])
        whole = geometric_mean([r["graph"] / (r["analysis"] + r["export"]) for r in built])
        text += (
            f" Where Torch-Pruning builds its graph ({len(built)} models), the analysis takes "
            f"{ratio:.0f} times less in the geometric mean ({whole:.2f} times with the export)."
        )
    if stepped:
        ratio = geometric_mean([r["step"] / r["cut"] for r in stepped])
        whole = geometric_mean([r["step"] / (r["cut"] + r["export"]) for r in stepped])
        text += (
            f" Where its step runs, and the network after it ({len(stepped)} models), analysis and "
            f"cut take {ratio:.0f} times less ({whole:.1f} times with the export)."
        )
    return text + "\n"


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
