"""Artifacts for several processors compute on emulated arm64 what they compute on this machine."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx
import torch

import autoprune as ap
import autoprune.runtime
from autoprune.passes.kernels.target import TARGETS, find_target
from autoprune.runtime import Session
from autoprune.runtime.cpu import this_cpu
from tests.arm.emulator import CPUS, emulate, need_userland
from tests.arm.networks import NETWORKS, make
from tests.tolerance import ROUNDING_SINGLE

ARM = {name: set(t.features) for name, t in TARGETS.items() if t.machine == "arm64"}
"""What libraries for arm64 need, the best first."""

OLD = next(cpu for cpu, features in CPUS.items() if "asimddp" not in features)


@dataclasses.dataclass(frozen=True)
class Device:
    """An arm64 userland, and the folder in which the runtime alone is installed."""

    root: Path
    packages: Path

    def python(self, cpu, *arguments, stdin=""):
        env = {
            "PYTHONPATH": str(self.packages),
            "PYTHONNOUSERSITE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
            "OMP_NUM_THREADS": "1",
        }
        python = self.root / "usr/bin/python3"
        return emulate(cpu, self.root, python, *arguments, env=env, stdin=stdin)

    def run(self, cpu, jobs):
        """What on_device.py says of jobs."""
        script = Path(__file__).with_name("on_device.py")
        done = self.python(cpu, script, stdin=json.dumps(jobs))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def device(tmp_path_factory):
    """The userland with the runtime of this checkout, installed as a user would."""
    root = need_userland()
    folder = tmp_path_factory.mktemp("device")
    # setuptools leaves its build folder beside its input.
    source = shutil.copytree(Path(autoprune.runtime.__file__).parent, folder / "source")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", folder / "packages"]
    subprocess.run([*pip, *options, source], check=True)
    return Device(root, folder / "packages")


@dataclasses.dataclass(frozen=True)
class Saved:
    """An artifact, other inputs than its test vectors, and the network's outputs on them."""

    path: Path
    digest: str
    inputs: Path
    expected: np.ndarray

    def job(self, outputs, **options):
        paths = {"artifact": self.path, "inputs": self.inputs, "outputs": outputs}
        return {**{k: str(v) for k, v in paths.items()}, "options": options}


def compiled(name, targets, folder, *, int8=False):
    network, x = make(name)
    batch = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.onnx.export(network, (x,), dynamo=True, verbose=False, dynamic_shapes=batch)
    options = {"target": targets, "int8": int8, "measure": False}
    made = ap.compile(program.model_proto, x.numpy(), **options)
    nodes = onnx.load_model_from_string(made.contents.model).graph.node
    assert sum(node.domain == "autoprune" for node in nodes) >= 4
    digest = made.save(folder / f"{name}.apz")
    other = torch.randn(5, *x.shape[1:])
    (key,) = (value.name for value in program.model_proto.graph.input)
    np.savez(folder / f"{name}.npz", **{key: other.numpy()})
    with torch.no_grad():
        expected = network(other).numpy()
    return Saved(folder / f"{name}.apz", digest, folder / f"{name}.npz", expected)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    return [compiled(name, ["x86-64", *ARM], folder) for name in NETWORKS]


@pytest.fixture(scope="module")
def demanding(tmp_path_factory):
    """An artifact for processors with dot products only."""
    folder = tmp_path_factory.mktemp("demanding")
    return compiled("encoder", ["arm64-dotprod"], folder)


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """An artifact with products of 8-bit integers."""
    folder = tmp_path_factory.mktemp("integers")
    return compiled("encoder", ["x86-64-v4-vnni", "arm64-dotprod"], folder, int8=True)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=ROUNDING_SINGLE * largest(expected))


def largest(array):
    return float(np.abs(array).max())


def only(path):
    with np.load(path) as arrays:
        (array,) = arrays.values()
    return array


@pytest.mark.parametrize("cpu", CPUS)
def test_networks_compute_the_same(cpu, device, artifacts, tmp_path):
    """By the best library for the processor, in one thread and in two."""
    best = next(name for name, features in ARM.items() if features <= CPUS[cpu])
    jobs = [
        saved.job(tmp_path / f"{number}-{threads}.npz", digest=saved.digest, threads=threads)
        for number, saved in enumerate(artifacts)
        for threads in (1, 2)
    ]
    for job, said in zip(jobs, device.run(cpu, jobs), strict=True):
        assert said["backend"] == f"native {best}"
        assert said["verified"] == [True]
        assert set(said["features"]) & set.union(*CPUS.values()) == CPUS[cpu]
        saved = next(saved for saved in artifacts if str(saved.path) == job["artifact"])
        close(only(job["outputs"]), saved.expected)
        close(only(job["outputs"]), on_this_machine(saved))


def on_this_machine(saved):
    session = Session(saved.path, digest=saved.digest, threads=1)
    assert session.backend.startswith("native x86-64")
    with np.load(saved.inputs) as arrays:
        (array,) = session.run(dict(arrays)).values()
    return array


@pytest.mark.parametrize("cpu", [cpu for cpu in CPUS if cpu != OLD])
def test_products_of_integers_compute_the_same(cpu, device, integers, tmp_path):
    """As on x86-64, but where a tie is rounded the other way: that changes a whole sequence."""
    (said,) = device.run(cpu, [integers.job(tmp_path / "output.npz", digest=integers.digest)])
    assert said["backend"] == "native arm64-dotprod"
    assert said["verified"] == [True]
    if not set(find_target("x86-64-v4-vnni").features) <= this_cpu().features:
        pytest.skip("this processor has no dot products of 8-bit integers to compare with")
    expected = on_this_machine(integers)
    gaps = np.abs(only(tmp_path / "output.npz") - expected).max((1, 2)) / largest(expected)
    assert np.median(gaps) < ROUNDING_SINGLE
    assert gaps.max() < 0.02


def test_a_library_for_newer_processors_is_refused(device, demanding, tmp_path):
    output = tmp_path / "output.npz"
    jobs = [
        demanding.job(output, digest=demanding.digest),
        demanding.job(output, digest=demanding.digest, fallback=True),
    ]
    refused, fallback = device.run(OLD, jobs)
    assert refused["error"] == "TargetError"
    assert "no library of the artifact runs on this arm64 processor" in refused["message"]
    assert "arm64-dotprod needs asimddp" in refused["message"]
    assert fallback["backend"] == "dense"
    assert fallback["verified"] == [True]
    close(only(output), demanding.expected)


@pytest.mark.parametrize("command", ["run", "verify"])
def test_on_the_command_line(command, device, demanding, tmp_path):
    output = tmp_path / "output.npz"
    more = [demanding.inputs, "-o", output] if command == "run" else []
    words = ["-m", "autoprune_runtime", command, demanding.path, *more]
    done = device.python("neoverse-n1", *words, "--digest", demanding.digest)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if command == "run":
        close(only(output), demanding.expected)
    else:
        assert "native arm64-dotprod: equal to the outputs of 1 test vectors" in done.stdout


def test_a_refusal_on_the_command_line(device, demanding):
    words = ["-m", "autoprune_runtime", "verify", demanding.path, "--digest", demanding.digest]
    done = device.python(OLD, *words)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no library of the artifact runs on this arm64 processor")
