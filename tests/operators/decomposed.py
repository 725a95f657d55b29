"""Operators as decomposed programs spell them, and further resampling and padding."""

import torch.nn.functional as F
from torch import nn

from tests.operators.case import Case, M, Z, aten, image, opaque

INPUTS = ((4, 3, 5, 5),)


def _norm(name, call, groups, *, layer=lambda: nn.BatchNorm2d(6)):
    return Case(
        name,
        name.split(",")[0],
        lambda: {"a": nn.Conv2d(3, 6, 1), "b": layer(), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(call(m.b, m.a(x))),
        groups,
        INPUTS,
    )


CHANNELS = {"a.weight:0[6]": Z}


def _stats(b):
    return b.weight, b.bias, b.running_mean, b.running_var


NORMS = (
    _norm(
        "native_batch_norm",
        lambda b, x: aten.native_batch_norm(x, *_stats(b), False, 0.1, 1e-5)[0],
        CHANNELS,
    ),
    _norm(
        "_native_batch_norm_legit_no_training",
        lambda b, x: aten._native_batch_norm_legit_no_training(x, *_stats(b), 0.1, 1e-5)[0],
        CHANNELS,
    ),
    _norm(
        "_native_batch_norm_legit",
        lambda b, x: aten._native_batch_norm_legit(x, b.weight, b.bias, True, 0.1, 1e-5)[0],
        CHANNELS,
    ),
    _norm(
        "_native_batch_norm_legit, statistics read",
        lambda b, x: (
            x * aten._native_batch_norm_legit(x, None, None, True, 0.1, 1e-5)[2][:, None, None]
        ),
        CHANNELS,
    ),
    _norm(
        "_batch_norm_with_update",
        lambda b, x: aten._batch_norm_with_update(
            x, b.weight, b.bias, b.running_mean.clone(), b.running_var.clone(), 0.1, 1e-5
        )[0],
        CHANNELS,
    ),
    _norm(
        "native_group_norm",
        lambda b, x: aten.native_group_norm(x, b.weight, b.bias, 4, 6, 25, 3, 1e-5)[0],
        {},
        layer=lambda: nn.GroupNorm(3, 6),
    ),
    Case(
        "native_group_norm beside the channels",
        "native_group_norm",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(
            aten.native_group_norm(m.a(x).T.contiguous(), None, None, 6, 4, 1, 2, 1e-5)[0].T
        ),
        {"a.weight:0[6]": M},
        ((4, 3),),
        weaker="its statistics, which are not zero, are not read",
    ),
    Case(
        "native_layer_norm",
        "native_layer_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.LayerNorm(4, bias=False), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(aten.native_layer_norm(m.a(x).mT, [4], m.b.weight, None, 1e-5)[0].mT),
        {"a.weight:0[6]": M},
        ((5, 4, 3),),
        weaker="its statistics, which are not zero, are not read",
    ),
    Case(
        "_fused_rms_norm",
        "_fused_rms_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.RMSNorm(4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(aten._fused_rms_norm(m.a(x).mT, [4], m.b.weight, 1e-5)[0].mT),
        {"a.weight:0[6]": M},
        ((5, 4, 3),),
        weaker="its statistics, which are not zero, are not read",
    ),
    opaque(
        "_fused_rms_norm over the axis",
        lambda y: aten._fused_rms_norm(y, [6], None, 0.1)[0],
        covers="_fused_rms_norm",
    ),
)


def _pads(rank, size):
    mode = {"reflection": "reflect", "replication": "replicate"}
    return tuple(
        image(
            f"{name}_pad{rank}d",
            lambda x, name=name: getattr(aten, f"{name}_pad{rank}d")(x, [1] * (2 * rank)),
            Z,
            size=size,
        )
        for name in mode
    )


RESAMPLING = (
    *_pads(1, (8,)),
    *_pads(2, (4, 4)),
    *_pads(3, (3, 3, 3)),
    image("_adaptive_avg_pool2d", lambda x: aten._adaptive_avg_pool2d(x, [2, 2]), Z),
    image(
        "_adaptive_avg_pool3d", lambda x: aten._adaptive_avg_pool3d(x, [2] * 3), Z, size=(4, 4, 4)
    ),
    image(
        "max_unpool2d",
        lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
        Z,
    ),
    image(
        "max_unpool3d",
        lambda x: F.max_unpool3d(*F.max_pool3d(x, 2, return_indices=True), 2),
        Z,
        size=(4, 4, 4),
    ),
    image("fractional_max_pool2d", lambda x: F.fractional_max_pool2d(x, 2, 3), None),
    image(
        "fractional_max_pool3d",
        lambda x: F.fractional_max_pool3d(x, 2, 3),
        None,
        size=(6, 6, 6),
    ),
    Case(
        "grid_sampler_3d",
        "grid_sampler_3d",
        lambda: {"a": nn.Conv3d(3, 6, 1), "z": nn.Conv3d(6, 2, 1)},
        lambda m, x, g: m.z(aten.grid_sampler_3d(m.a(x), g.tanh(), 0, 0, False)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4, 4), (2, 3, 3, 3, 3)),
    ),
    Case(
        "spatial transformer",
        "affine_grid_generator grid_sampler",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "b": nn.Linear(48, 5),
            "c": nn.Linear(5, 6),
            "z": nn.Conv2d(6, 2, 1),
        },
        lambda m, x: m.z(
            F.grid_sample(
                m.a(x),
                F.affine_grid(
                    m.c(m.b(x.flatten(1)).relu()).view(2, 2, 3), (2, 6, 4, 4), align_corners=False
                ).tanh(),
                align_corners=False,
            )
        ),
        {"a.weight:0[6]": Z, "b.weight:0[5]": Z},
        ((2, 3, 4, 4),),
    ),
)

DECOMPOSED = (*NORMS, *RESAMPLING)
