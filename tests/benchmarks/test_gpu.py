"""The benchmark of GPUs on emulated kernels and a made-up clock: what it compares, and its page."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import torch

from autoprune.passes.kernels.cuda.kernels import family
from autoprune.passes.kernels.cuda.linear import SparseLinear
from benchmarks import gpu
from tests.kernels.cuda.emulated import emulated


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    names = ("float32", "float16")
    kernels = [kernel for rows in (1, 32) for name in names for kernel in family(rows, dtype=name)]
    return emulated(kernels, tmp_path_factory.mktemp("gpu")).path


def ticking(runs):
    """Runs everything; the first takes a second, the next one two, ..."""
    for run in runs:
        run()
    return [float(place) for place, _ in enumerate(runs, 1)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("pattern", [("block 32x1", 0.8), ("2:4", None)])
def test_a_layer(pattern, dtype, library):
    row = gpu.layer((64, 96), 3, pattern, dtype, library, "cpu", ticking, cache=10**5)
    weights = math.ceil(2 * 10**5 / (64 * 96 * dtype.itemsize))
    assert row.dense == 2 / weights
    assert row.sparse > 1 / weights if pattern[1] is None else row.sparse < 1 / weights
    assert math.isnan(row.tf32) == (dtype == torch.float16)
    assert row.stored == pytest.approx(0.5 if pattern[1] is None else 0.2, abs=0.01)
    assert torch.backends.cuda.matmul.allow_tf32 is False


def test_a_wrong_product_is_not_timed(library, monkeypatch):
    monkeypatch.setattr(SparseLinear, "forward", lambda self, x: x.new_ones(len(x), self.outputs))
    with pytest.raises(SystemExit, match="is wrong by"):
        gpu.layer(
            (64, 96), 3, ("2:4", None), torch.float32, library, "cpu", ticking, cache=10**5
        )  # fmt: skip


def test_networks(library):
    made = lambda: gpu.encoder(layers=1, width=128)  # noqa: E731
    found = list(gpu.networks(torch.float32, library, "cpu", ticking, made, 128, [(1, 4)]))
    assert [whole.seconds for whole in found] == [1, 2, 3, 4, 5]
    assert found[0].name == "dense"


def test_the_page(tmp_path):
    row = gpu.Row((64, 96), 3, "2:4", torch.float32, 0.5, 2e-6, 1e-6, 4e-6, math.nan)
    whole = gpu.Whole("half", (1, 16), torch.float16, 1e-3, 3e-3)
    path = tmp_path / "gpu.md"
    path.write_text(f"# Title\n{gpu.MARK}old\n")
    gpu.write(gpu.page("card", [row], [whole]), path)
    text = path.read_text()
    assert text.startswith("# Title\n")
    assert "old" not in text
    assert "| 96 to 64 | 3 | float32 | 2:4 | 50% | 2.0 | 0.50 | 2.00 |  |\n" in text
    assert "| half | 1 x 16 | float16 | 1.00 | 3.00 |\n" in text


def test_without_a_gpu(capsys):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert gpu.main([]) == 2
    assert "no GPU" in capsys.readouterr().err
