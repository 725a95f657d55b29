"""Opening and running intact artifacts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from autoprune.runtime import (
    ArtifactError,
    DenseNotice,
    InputError,
    NotEqualError,
    Session,
    TargetError,
)
from autoprune.runtime.arrays import check_inputs
from autoprune.runtime.cpu import Cpu, this_cpu
from autoprune.runtime.manifest import Library, TensorSpec
from autoprune.runtime.native import choose_library
from tests.runtime.artifacts import X, dense_contents, native_library, network


@pytest.fixture
def loads(monkeypatch):
    """The libraries that are loaded, while loading them does nothing."""
    seen = []
    monkeypatch.setattr(
        "autoprune.runtime.engine.register_library",
        lambda options, data, library: seen.append(library.label),
    )
    return seen


def test_dense_artifact_runs(dense):
    session = Session(dense)
    assert session.backend == "dense"
    assert session.notice is None
    assert [str(spec) for spec in session.inputs] == ["x: float32 [n, 4]"]
    np.testing.assert_array_equal(session.run({"x": X})["y"], 2 * X + 1)


@pytest.mark.parametrize("trust", ["digest", "trust_native"])
def test_trusted_native_code_runs(native, trust):
    path, digest = native
    session = Session(path, **{trust: digest if trust == "digest" else True}, threads=1)
    assert session.backend == "native here"
    assert session.digest == digest
    np.testing.assert_array_equal(session.run({"x": X})["y"], 2 * X + 1)
    [row] = session.verify().differences
    assert row.found == 0


def test_native_code_is_what_runs(save, compile_library):
    tripled = [native_library(compile_library(3))]
    path, digest = save(dense_contents(), model=network("custom"), libraries=tripled)
    session = Session(path, digest=digest)
    np.testing.assert_array_equal(session.run({"x": X})["y"], 3 * X + 1)
    with pytest.raises(NotEqualError, match="native here, test vector 0"):
        session.verify()
    assert Session(path, native=False).verify().backend == "dense"


def test_untrusted_native_code_is_not_loaded(native, loads):
    path, _ = native
    with pytest.warns(DenseNotice, match="digest="):
        session = Session(path)
    assert session.backend == "dense"
    assert session.verify().differences
    assert Session(path, native=False).notice is None
    assert loads == []


def test_wrong_digest_is_refused(native, loads):
    path, digest = native
    with pytest.raises(ArtifactError, match=digest):
        Session(path, digest="0" * 64)
    with pytest.raises(ArtifactError, match="64 hexadecimal"):
        Session(path, digest="latest", trust_native=True)
    assert loads == []


def test_library_leaves_no_file(native, monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path, digest = native
    session = Session(path, digest=digest)
    assert not list(folder.iterdir())
    session.verify()


def test_library_is_private_while_it_loads(native, monkeypatch):
    seen = []
    register = onnxruntime.SessionOptions.register_custom_ops_library

    def spy(options, path):
        seen.append([oct(p.stat().st_mode & 0o777) for p in (Path(path).parent, Path(path))])
        return register(options, path)

    monkeypatch.setattr(onnxruntime.SessionOptions, "register_custom_ops_library", spy)
    Session(native[0], digest=native[1])
    assert seen == [["0o700", "0o600"]]


def test_best_library_this_processor_can_run_is_chosen():
    cpu = Cpu("linux", "arm64", frozenset({"neon", "asimddp"}))
    labels = {"x86-64-v4": ("avx512f",), "i8mm": ("neon", "i8mm"), "dot": ("asimddp",), "any": ()}
    libraries = [
        Library("m", "linux", "x86-64" if "x86" in label else "arm64", features, label)
        for label, features in labels.items()
    ]
    assert choose_library(libraries, cpu).label == "dot"
    with pytest.raises(TargetError, match=r"x86-64-v4 needs linux on x86-64; i8mm needs i8mm"):
        choose_library(libraries[:2], cpu)


def test_missing_feature(save, library, loads):
    libraries = [native_library(library, "warp_drive", label="enterprise")]
    path, digest = save(dense_contents(), model=network("custom"), libraries=libraries)
    with pytest.raises(TargetError, match="enterprise needs warp_drive"):
        Session(path, digest=digest)
    with pytest.warns(DenseNotice, match="enterprise needs warp_drive"):
        session = Session(path, digest=digest, fallback=True)
    assert session.backend == "dense"
    assert loads == []


def test_other_processor(native, monkeypatch, loads):
    path, digest = native
    monkeypatch.setattr(
        "autoprune.runtime.choice.this_cpu", lambda: Cpu("linux", "riscv64", frozenset())
    )
    with pytest.raises(TargetError, match=f"linux on {this_cpu().machine}"):
        Session(path, digest=digest)
    assert loads == []


def test_library_that_does_not_load(save):
    libraries = [native_library(b"\x7fELF but no more")]
    path, digest = save(dense_contents(), model=network("custom"), libraries=libraries)
    with pytest.raises(TargetError, match="the library here does not load"):
        Session(path, digest=digest)
    with pytest.warns(DenseNotice, match="does not load"):
        assert Session(path, digest=digest, fallback=True).verify().backend == "dense"


def test_old_onnxruntime(save, monkeypatch):
    path, _ = save(dense_contents(), onnxruntime="1.30")
    Session(path)
    monkeypatch.setattr(onnxruntime, "__version__", "1.9.0")
    with pytest.raises(TargetError, match=r"needs ONNX Runtime 1\.30 or newer, this is 1\.9\.0"):
        Session(path)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "an input is missing"),
        ({"x": X, "z": X}, "an input is unknown"),
        ({"X": X}, "an input is missing"),
        ({"x": X.astype(np.float64)}, "dtype float64"),
        ({"x": X.astype(">f4")}, "dtype >f4"),
        ({"x": X.tolist()}, "type list"),
        ({"x": X[0]}, "1 axes, not 2"),
        ({"x": X.T.copy()}, "axis 1 of the input has size 3, not 4"),
        ([X], "no mapping"),
    ],
)
def test_wrong_input(dense, inputs, message):
    with pytest.raises(InputError, match=message) as caught:
        Session(dense).run(inputs)
    assert "x: float32 [n, 4]" in str(caught.value)


def test_named_size_is_the_same_everywhere():
    specs = [TensorSpec(name, "float32", ("n", None)) for name in "ab"]
    check_inputs({"a": X, "b": X[:, :2]}, specs)
    with pytest.raises(InputError, match=r"axis 0 \(n\) of the input has size 2, not 3"):
        check_inputs({"a": X, "b": X[:2]}, specs)


def test_any_layout_of_an_input(dense):
    session = Session(dense)
    fortran = np.asfortranarray(X)
    np.testing.assert_array_equal(session.run({"x": fortran})["y"], 2 * X + 1)
    np.testing.assert_array_equal(session.run({"x": X[::-1]})["y"], 2 * X[::-1] + 1)


def test_model_that_contradicts_the_manifest(save):
    wrong = [TensorSpec("y", "int64", ("n", 4))]
    path, _ = save(dense_contents(), outputs=wrong, examples=[])
    with pytest.raises(ArtifactError, match="disagree about output 'y'"):
        Session(path)


def test_model_that_needs_native_code_does_not_run_without(save):
    path, _ = save(dense_contents(), dense=network("custom"))
    with pytest.raises(TargetError, match="cannot load the model"):
        Session(path)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_provider_that_does_not_start(dense, monkeypatch):
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if available[0] in onnxruntime.get_available_providers():
        pytest.skip("it does start here")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    with pytest.raises(TargetError, match="CUDAExecutionProvider does not start"):
        Session(dense, providers=available)


def test_unavailable_provider_and_threads(dense):
    with pytest.raises(TargetError, match="no execution provider 'Abacus'"):
        Session(dense, providers=["Abacus"])
    with pytest.raises(ValueError, match="threads=0"):
        Session(dense, threads=0)


def test_verify_and_benchmark_need_something_to_run(save):
    session = Session(save(dense_contents(), examples=[])[0])
    with pytest.raises(ArtifactError, match="no test vectors"):
        session.verify()
    with pytest.raises(InputError, match="pass inputs"):
        session.benchmark()


def test_benchmark(dense):
    latency = Session(dense).benchmark({"x": X}, seconds=0.01)
    assert latency.runs >= 5
    assert 0 < latency.minimum <= latency.lower <= latency.median <= latency.upper
    assert latency.upper <= latency.p90 <= latency.p99
    assert str(latency).startswith("dense, x: float32[3,4]\nmedian ")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 7.0])
def test_verify_sees_one_wrong_element(save, bad):
    expected = 2 * X + 1
    expected[1, 2] = bad
    path, _ = save(dense_contents(), examples=[({"x": X}, {"y": expected})])
    with pytest.raises(NotEqualError, match="y: off by"):
        Session(path).verify()


def test_verify_accepts_what_is_not_finite_where_it_should_be(save):
    x = X.copy()
    x[0, :2] = np.nan, np.inf
    path, _ = save(dense_contents(), examples=[({"x": x}, {"y": 2 * x + 1})])
    assert Session(path).verify().differences[0].found == 0


def test_runtime_loads_no_framework(dense):
    code = (
        "import sys; from autoprune.runtime import Session\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "Session(sys.argv[1]).verify()\n"
        "print(*{'torch', 'tvm', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(dense)], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == ""
