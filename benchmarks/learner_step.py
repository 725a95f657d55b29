"""Time and memory of a training step, with and without a learner.

    python benchmarks/learner_step.py          # everything; writes docs/learner_step.md
    python benchmarks/learner_step.py resnet20 # one or more networks, printed

A whole step is timed: forward, backward, the optimizer. Base and base + learner take turns, step by
step, in one process for each network and method, on copies of one network with the same data, one
thread, in processor time. Memory is the peak of the resident set of a process of its own, in which
the allocator hands freed tensors back at once: otherwise what it keeps varies by a tenth.
"""

from __future__ import annotations

import copy
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402
from rich.progress import track  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import autoprune as ap  # noqa: E402
from autoprune.passes import learners  # noqa: E402

STEPS = 12
TIMING = learners.Timing(start=0.2, stop=0.7, periods=2)

RUN = learners.Timing().schedule(1000)
"""What the overhead of a whole run is computed for, from that of its parts."""

METHODS: dict[str, learners.Method] = {
    "hspg": learners.HSPG(),
    "dhspg": learners.DHSPG(),
    "hesso": learners.HESSO(),
    "hesso_cric": learners.HESSOCRIC(cycles=1, samples=2),
    "group_lasso": learners.GroupLasso(),
    "wgsef": learners.WGSEF(),
    "polarization": learners.Polarization(),
    "turbo_vbi": learners.TurboVBI(),
}

HEADER = """# Time and memory of a learner

Written by `python benchmarks/learner_step.py`: a whole training step (forward, backward, optimizer)
with base + learner, relative to the base alone, both in turns in one process on one thread. The
base is SGD with momentum for the residual networks and AdamW for the transformer. Memory is the
peak of the process with a learner relative to that of a process without, in which the same code is
loaded (glibc hands freed tensors back at once there). Times are processor time, so that other work
on the machine counts less.

* choosing: steps that begin a period, in which units are scored and chosen;
* shrinking: the other steps of the pruning part;
* holding: steps after it, in which removed units are held at zero;
* run: the three over a whole run of 1000 steps, 10 of which begin a period.

In bold what is over 5 % of the time of a run, or 10 % of memory.

"""

HAND_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Environment in which glibc keeps no freed tensor."""

BUDGETS = {"time": 0.05, "memory": 0.10}
"""What a learner may take of a step's time and memory."""

Network = tuple[nn.Module, torch.Tensor]


def small_residual() -> Network:
    """ResNet-20 for 32 x 32 images, batch 128."""
    from benchmarks.training.networks import resnet20

    return resnet20(3), torch.randn(128, 3, 32, 32)


def large_residual() -> Network:
    """ResNet-50 for 224 x 224 images, batch 4."""
    from tests.zoo.shim import ensure_torchvision

    ensure_torchvision()
    from torchvision.models import resnet50

    return resnet50(), torch.randn(4, 3, 224, 224)


def transformer() -> Network:
    """Six layers of width 384 with 12 heads, 8 sequences of 128."""
    layer = nn.TransformerEncoderLayer(384, 12, 1536, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), torch.randn(8, 128, 384)


NETWORKS: dict[str, Callable[[], Network]] = {
    "resnet20": small_residual, "resnet50": large_residual, "transformer": transformer,
}  # fmt: skip


def base_optimizer(name: str, network: nn.Module) -> torch.optim.Optimizer:
    """What such a network is usually trained with."""
    if name == "transformer":
        return torch.optim.AdamW(network.parameters(), lr=1e-4)
    return torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)


def with_learner(
    name: str, network: nn.Module, inputs: torch.Tensor, method: str
) -> torch.optim.Optimizer:
    """The base with a learner around it."""
    pruner = ap.Pruner(network, inputs[:1], options=ap.Options(keep_class=False))
    base = base_optimizer(name, network)
    return pruner.learn(base, METHODS[method], flops=0.5, steps=STEPS, timing=TIMING)


def step(network: nn.Module, optimizer: torch.optim.Optimizer, inputs: torch.Tensor) -> float:
    """Seconds of processor time of a whole training step."""
    start = time.process_time()
    optimizer.zero_grad()
    F.mse_loss(outputs := network(inputs), torch.zeros_like(outputs)).backward()
    optimizer.step()
    return time.process_time() - start


def measure_time(name: str, method: str) -> dict[str, float]:
    """Seconds of steps with and without a learner, in turns."""
    torch.manual_seed(0)
    plain, inputs = NETWORKS[name]()
    steered = copy.deepcopy(plain)
    base = base_optimizer(name, plain)
    learner = with_learner(name, steered, inputs, method)
    times = [(step(plain, base, inputs), step(steered, learner, inputs)) for _ in range(STEPS)]
    schedule = learner.training.schedule
    usual = statistics.median(t for t, _ in times)

    def overhead(steps: Iterable[int]) -> float:
        return statistics.fmean(times[i][1] - times[i][0] for i in steps) / usual

    pruning = range(schedule.start, schedule.stop)
    return {
        "step": usual,
        "choosing": overhead(filter(schedule.begins_period, pruning)),
        "shrinking": overhead(i for i in pruning if not schedule.begins_period(i)),
        "holding": overhead(range(schedule.stop, STEPS)),
    }


def measure_memory(name: str, method: str) -> dict[str, float]:
    """Peak of the resident set, in bytes, over a run."""
    torch.manual_seed(0)
    # Code that learners load is there without one, too: what counts is what they keep.
    ap.Pruner(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)), torch.randn(1, 4))
    network, inputs = NETWORKS[name]()
    optimizer = (
        base_optimizer(name, network)
        if method == "none"
        else with_learner(name, network, inputs, method)
    )
    for _ in range(TIMING.schedule(STEPS).stop + 1):
        step(network, optimizer, inputs)
    return {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def child(kind: str, name: str, method: str) -> dict[str, float]:
    """A measurement in a process of its own."""
    command = [sys.executable, __file__, "--one", kind, name, method]
    env = os.environ | (HAND_BACK if kind == "memory" else {})
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=env)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def section(name: str) -> str:
    """A network's table."""
    tasks = [("memory", "none"), *(("time", m) for m in METHODS), *(("memory", m) for m in METHODS)]
    found = {
        (kind, method): child(kind, name, method) for kind, method in track(tasks, description=name)
    }
    base = found["memory", "none"]["peak"]
    usual = statistics.median(found["time", m]["step"] for m in METHODS)
    lines = [
        f"## {str(NETWORKS[name].__doc__).rstrip('.')}\n\n",
        f"A step of the base takes {usual * 1000:.0f} ms, at a peak of {base / 2**20:.0f} MiB.\n\n",
        "| method | choosing | shrinking | holding | run | memory |\n|---|---|---|---|---|---|\n",
    ]
    for method in METHODS:
        timed, memory = found["time", method], found["memory", method]["peak"] / base - 1
        run = (
            RUN.periods * timed["choosing"]
            + (RUN.stop - RUN.start - RUN.periods) * timed["shrinking"]
            + (RUN.steps - RUN.stop) * timed["holding"]
        ) / RUN.steps
        parts = " | ".join(f"{timed[p]:+.1%}" for p in ("choosing", "shrinking", "holding"))
        marked = f"{_marked(run, BUDGETS['time'])} | {_marked(memory, BUDGETS['memory'])}"
        lines.append(f"| {method} | {parts} | {marked} |\n")
    return "".join(lines) + "\n"


def _marked(share: float, limit: float) -> str:
    return f"**{share:+.1%}**" if share > limit else f"{share:+.1%}"


def main() -> int:
    """Measure the networks named on the command line, or all."""
    torch.set_num_threads(1)
    if sys.argv[1:2] == ["--one"]:
        _, _, kind, name, method = sys.argv
        measure = measure_time if kind == "time" else measure_memory
        print(json.dumps(measure(name, method)))
        return 0
    names = sys.argv[1:] or list(NETWORKS)
    page = HEADER + "".join(map(section, names))
    if sys.argv[1:]:
        print(page)
    else:
        (ROOT / "docs" / "learner_step.md").write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
