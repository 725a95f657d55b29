"""What bytes stand for, and the constants that follow from it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="needs apache-tvm")

import onnx

from autoprune.passes.kernels.encoding import between_bytes
from autoprune.passes.kernels.geometry import Geometry
from autoprune.passes.kernels.kernel import Step
from autoprune.passes.lower.calibration import FARTHEST, coarse_enough, step_between
from autoprune.passes.lower.match import OnnxProduct


@pytest.mark.parametrize(
    ("lowest", "highest"), [(0, 6), (-1, 3), (-5, -2), (2, 7), (0, 0), (-1e-9, 3e4), (-3, 0)]
)
def test_bytes_span_the_range_and_have_a_zero(lowest, highest):
    step = step_between(lowest, highest)
    numbers = (np.arange(256) - step.zero) * step.size
    assert 0 <= step.zero <= 255
    assert 0 in numbers
    # Half a step is lost where zero is rounded to a byte.
    assert numbers[0] <= min(lowest, 0) + step.size / 2
    assert numbers[-1] >= max(highest, 0) - step.size / 2
    # ReLU needs no more than that nothing is below zero.
    assert numbers[0] == 0 or lowest < 0


def product(activation="", added=None, depthwise=False, kernel=(3, 5)):
    rng = np.random.default_rng(0)
    geometry = Geometry(kernel)
    weight = rng.standard_normal((8, (1 if depthwise else 8) * geometry.taps)).astype(np.float32)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    bias = rng.standard_normal(8).astype(np.float32)
    return OnnxProduct(
        False, "x", "y", weight, bias, added, activation, geometry, depthwise, nodes=(node,)
    )


STEPS = {"x": Step(0.02, 30), "r": Step(0.05, 200), "y": Step(0.1, 100)}


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("activation", ["", "silu"])
def test_scales_and_bias_of_bytes(activation, depthwise):
    """As the kernel uses them, they make the byte of what the product of rounded numbers is."""
    part = product(activation, None if depthwise else "r", depthwise)
    tensors = between_bytes(part, STEPS)
    rng = np.random.default_rng(1)
    x, r = rng.integers(0, 256, part.weight.shape[1]), int(rng.integers(0, 256))
    scale = np.abs(part.weight.astype(np.float64)).max(1) / 127
    whole = np.round(part.weight / scale[:, None])
    exact = (whole * scale[:, None]) @ ((x - 30) * 0.02) + part.bias
    exact = exact if depthwise else exact + (r - 200) * 0.05
    sums, numbers = whole @ (x - 128), tensors["numbers"]
    made = sums * tensors["scales"].reshape(-1) + tensors["bias"].reshape(-1)
    made = made if depthwise else made + r * numbers[0]
    if activation:
        exact = exact / (1 + np.exp(-exact))
        made = made / (1 + np.exp(-made)) * numbers[1] + numbers[2]
    np.testing.assert_allclose(made, exact / 0.1 + 100 + 0.5, rtol=0, atol=1e-2)
    np.testing.assert_array_equal(tensors["sums"].reshape(-1), whole.sum(1))


def test_a_range_in_which_outputs_cancel_out():
    """Whatever is read, what is made has fewer steps than 32 bits count."""
    steps = {**STEPS, "y": Step(1e-30, 0)}
    part = product()
    coarse = coarse_enough([part], steps)
    assert coarse["x"] == STEPS["x"]
    most = np.abs(part.weight).sum(1).max() * 255 * 0.02
    assert most / coarse["y"].size <= FARTHEST
    assert coarse_enough([part], STEPS) == STEPS
