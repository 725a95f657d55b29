"""docs/networks.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.deploy.variants import DENSE

INT8 = "int8 of ONNX Runtime"

HEADER = """# Latency of whole networks

Written by `python benchmarks/networks.py`. Speed relative to the same network, dense, in float32 on
ONNX Runtime: ratio of the shortest times, and of the medians in brackets. Every variant runs in a
process of its own, in turns. Batch 1; images are 224 x 224. "blocks 80 %" means that 80 % of the
weights of every layer with sparse kernels are zero, in blocks of 4 or 8 outputs of a convolution,
of 64 (or what divides the outputs) of a linear layer, by four inputs for int8; `compile` decided by
measurement what runs on sparse kernels. "channels 50 %" keeps half of every group of channels,
heads and hidden units. 8 bits of ONNX Runtime are static for convolutional networks, dynamic
(per channel) for encoders; OpenVINO and XNNPACK run float32. XNNPACK has sparse kernels for
networks like MobileNetV2, but those for x86-64 use SSE alone, and it takes them only where there is
no AVX: in its rows with blocks it was told so. Times say nothing about accuracy. Other work ran on
the machine during parts of the committed run: ratios of shortest times on one thread are what to go
by, those on two threads and the medians are noisy.
"""


def write_page(path: Path, known: Mapping[str, Any]) -> None:
    """Write the page from results by network."""
    path.write_text(HEADER + "".join(f"\n{line}" for line in _lines(known)) + "\n")


def _lines(known: Mapping[str, Any]) -> Iterator[str]:
    for network, rows in known.items():
        threads = list(rows[DENSE]["times"])
        yield f"## {network}"
        yield ""
        titles = [f"{t} thread{'s' * (t != '1')}" for t in threads]
        columns = " | ".join(f"ms, {title} | speed" for title in titles)
        yield f"| | {columns} | int8 of ORT = 1 | FLOPs |"
        yield "|---" * (3 + 2 * len(threads)) + "|"
        for name, row in rows.items():
            cells = []
            for t in threads:
                (best, middle), (dense, dense_middle) = row["times"][t], rows[DENSE]["times"][t]
                cells += [f"{best:.2f}", f"{dense / best:.2f}x ({dense_middle / middle:.2f}x)"]
            against = rows[INT8]["times"][threads[0]][0] / row["times"][threads[0]][0]
            flops = "" if row["flops"] is None else f"{row['flops']:.0%}"
            yield f"| {name} | {' | '.join(cells)} | {against:.2f}x | {flops} |"
        yield ""
