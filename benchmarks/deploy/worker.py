"""A process that runs one variant whenever it is told to, and says how long that took.

    python -m benchmarks.deploy.worker ENGINE PATH FEED THREADS

Reads numbers of runs from standard input, writes the seconds of each run as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

Feed = dict[str, Any]


def onnxruntime(path: str, feed: Feed, threads: int) -> Callable[[], object]:
    """A model in ONNX Runtime, without the fusion that makes encoders slower."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = ort.InferenceSession(
        path, options, providers=["CPUExecutionProvider"],
        disabled_optimizers=["SkipLayerNormFusion"],
    )  # fmt: skip
    return lambda: session.run(None, feed)


def runtime(path: str, feed: Feed, threads: int) -> Callable[[], object]:
    """An artifact."""
    from autoprune.runtime import Session

    session = Session(path, trust_native=True, threads=threads)
    return lambda: session.run(feed)


def openvino(path: str, feed: Feed, threads: int) -> Callable[[], object]:
    """A model in OpenVINO, in float32."""
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }  # fmt: skip
    compiled = openvino.Core().compile_model(path, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer(feed)


def xnnpack(path: str, feed: Feed, threads: int, *, sparse: bool = False) -> Callable[[], object]:
    """A model in XNNPACK, in float32, checked against ONNX Runtime."""
    import onnx

    from benchmarks.deploy.xnnpack import xnnpack

    (image,) = feed.values()
    run = xnnpack(onnx.load(path), image, threads, sparse=sparse)
    (expected,) = onnxruntime(path, feed, 1)()
    np.testing.assert_allclose(run(), expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    return run


ENGINES = {
    "onnxruntime": onnxruntime,
    "runtime": runtime,
    "openvino": openvino,
    "xnnpack": xnnpack,
    "xnnpack-sparse": partial(xnnpack, sparse=True),
}


def main() -> None:
    """Answer until standard input ends."""
    engine, path, feed_path, threads = sys.argv[1:]
    with np.load(feed_path) as stored:
        feed = {name: stored[name] for name in stored.files}
    run = ENGINES[engine](path, feed, int(threads))
    run()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main()
