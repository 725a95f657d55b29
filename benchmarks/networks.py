"""Latency of whole networks: sparse kernels beside ONNX Runtime, its 8 bits, OpenVINO and XNNPACK.

    python benchmarks/networks.py                    # everything; about half an hour
    python benchmarks/networks.py MobileNet BERT     # networks whose names begin so
    python benchmarks/networks.py --page             # only write docs/networks.md anew

Every variant runs in a process of its own, and they take turns, so that all see the same machine.
Weights are random, and those that are zero are chosen by magnitude: this is about time alone.
Results are kept in benchmarks/results/networks.json, network by network.
For comparison alone: pip install --no-deps openvino==2026.4.1, apt-get install libxnnpack0
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from benchmarks.deploy.models import NETWORKS, Network  # noqa: E402
from benchmarks.deploy.page import write_page  # noqa: E402
from benchmarks.deploy.variants import Variant, variants  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "networks.json"
ROUNDS, SECONDS = 15, 0.15
"""Turns of every variant, and how long each is about."""


def main() -> int:
    """Time what the command line asks for."""
    parser = argparse.ArgumentParser(description="Time whole networks, dense and sparse.")
    parser.add_argument("names", nargs="*", help="how the names of the networks begin")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="one run for each")
    parser.add_argument("--page", action="store_true", help="write the page, time nothing")
    asked = parser.parse_args()
    known = _known()
    for network in NETWORKS if not asked.page else ():
        if asked.names and not any(network.name.startswith(name) for name in asked.names):
            continue
        result = timed(network, asked.threads)
        known = _known()
        known[network.name] = result
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")
    write_page(ROOT / "docs" / "networks.md", known)
    return 0


def _known() -> dict[str, Any]:
    """Results so far, those of other runs included."""
    known: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return known


def timed(network: Network, threads: Sequence[int]) -> dict[str, Any]:
    """Minimum and median milliseconds of all variants, by threads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = []
        for variant in variants(network, folder):
            print(f"{network.name}: {variant.name} {variant.note}", flush=True)
            made.append(variant)
        result: dict[str, Any] = {
            v.name: {"flops": v.flops, "note": v.note, "times": {}} for v in made
        }
        for count in threads:
            for variant, times in zip(
                made, in_turns(made, folder / "feed.npz", count), strict=True
            ):
                best, middle = 1e3 * min(times), 1e3 * statistics.median(times)
                result[variant.name]["times"][str(count)] = [round(best, 4), round(middle, 4)]
                print(f"  {count} threads, {variant.name}: {best:.3f} ms", flush=True)
        return result


def in_turns(made: Sequence[Variant], feed: Path, threads: int) -> list[list[float]]:
    """Seconds of the runs of every variant."""
    command = (sys.executable, "-m", "benchmarks.deploy.worker")
    workers = [
        subprocess.Popen(
            [*command, v.engine, v.path, feed, str(threads)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for v in made
    ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout is not None
            if worker.stdout.readline() != "ready\n":
                raise RuntimeError(f"a worker does not start: {worker.args}")
        runs = [max(1, round(SECONDS / _answer(w, 3)[-1])) for w in workers]
        times: list[list[float]] = [[] for _ in workers]
        for _ in range(ROUNDS):
            for worker, count, taken in zip(workers, runs, times, strict=True):
                # The first of a turn finds the caches full of what others left.
                taken += _answer(worker, count + 1)[1:]
        return times
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _answer(worker: subprocess.Popen[str], runs: int) -> list[float]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(f"{runs}\n")
    worker.stdin.flush()
    answer: list[float] = json.loads(worker.stdout.readline())
    return answer


if __name__ == "__main__":
    sys.exit(main())
