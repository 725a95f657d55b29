"""Normalization: statistics over the axis forbid, or have to be rescaled."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from tests.operators.case import A, C, Case, M, Z, free, tokens

IMAGE = ((4, 3, 5, 5),)


def _norm(name, make, groups, *, covers, channels=6, act=lambda x: x, inputs=IMAGE, weaker=""):
    """convolution 3 -> channels, the layer of `make`, convolution channels -> 2."""
    return Case(
        name,
        covers,
        lambda: {"a": nn.Conv2d(3, channels, 1), "b": make(), "z": nn.Conv2d(channels, 2, 1)},
        lambda m, x: m.z(m.b(act(m.a(x)))),
        {f"a.weight:0[{channels}]": groups} if isinstance(groups, str) else groups,
        inputs,
        weaker=weaker,
    )


def _tokens(name, make, groups, *, covers="layer_norm", act=lambda x: x, width=6):
    return Case(
        name,
        covers,
        lambda: {"a": nn.Linear(3, width), "b": make(), "z": nn.Linear(width, 2)},
        lambda m, x: m.z(m.b(act(m.a(x)))),
        {f"a.weight:0[{width}]": groups} if isinstance(groups, str) else groups,
        ((5, 4, 3),),
    )


BATCH = (
    _norm("batch_norm", lambda: nn.BatchNorm2d(6), Z, covers="batch_norm"),
    _norm("batch_norm not affine", lambda: nn.BatchNorm2d(6, affine=False), M, covers="batch_norm"),
    _norm(
        "batch_norm of batch statistics",
        lambda: nn.BatchNorm2d(6, track_running_stats=False),
        Z,
        covers="batch_norm",
    ),
    _norm(
        "batch_norm after what is not zero",
        lambda: nn.BatchNorm2d(6),
        Z,
        covers="batch_norm",
        act=torch.sigmoid,
    ),
    Case(
        "batch_norm of vectors",
        "batch_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.BatchNorm1d(6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x)).relu()),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "batch_norm beside the axis",
        "batch_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.BatchNorm1d(4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": M},
        ((5, 4, 3),),
    ),
    Case(
        "batch statistics taken over the axis",
        "batch_norm",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": nn.BatchNorm1d(4, track_running_stats=False),
            "z": nn.Linear(6, 2),
        },
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": A},
        ((5, 4, 3),),
    ),
    Case(
        "standardised weights",
        "batch_norm",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "w": free(4, 6, 3, 3),
            "gain": free(4),
            "z": nn.Conv2d(4, 2, 1),
        },
        lambda m, x: m.z(
            F.conv2d(
                m.a(x),
                F.batch_norm(
                    m.w.reshape(1, 4, -1), None, None, weight=m.gain, training=True
                ).reshape_as(m.w),
            )
        ),
        {"w:0[4]": Z, "w:1[6]": A},
        IMAGE,
    ),
)

LAYER = (
    _tokens("layer_norm", lambda: nn.LayerNorm(6), C),
    _tokens("layer_norm without bias", lambda: nn.LayerNorm(6, bias=False), C),
    _tokens("layer_norm not affine", lambda: nn.LayerNorm(6, elementwise_affine=False), C),
    _tokens("layer_norm over two axes", lambda: nn.LayerNorm((4, 6)), C),
    _tokens("layer_norm of what is not zero", lambda: nn.LayerNorm(6), A, act=torch.sigmoid),
    Case(
        "layer_norm beside the axis",
        "layer_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.LayerNorm(4, bias=False), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x).mT).mT),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "layer_norm with a bias, beside the axis",
        "layer_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.LayerNorm(4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x).mT).mT),
        {"a.weight:0[6]": M},
        ((5, 4, 3),),
    ),
    Case(
        "layer_norm of heads",
        "layer_norm",
        lambda: {"a": nn.Linear(3, 12), "b": nn.LayerNorm(3, bias=False), "z": nn.Linear(12, 2)},
        lambda m, x: m.z(m.b(m.a(x).view(5, 4, 3)).flatten(1)),
        {"a.weight:0/0[4]": Z, "a.weight:0/1[3]": C},
    ),
)

RMS = (
    _tokens("rms_norm with eps", lambda: nn.RMSNorm(6, eps=0.1), C, covers="rms_norm"),
    _tokens("rms_norm without eps", lambda: nn.RMSNorm(6), C, covers="rms_norm"),
    _tokens(
        "rms_norm not affine",
        lambda: nn.RMSNorm(6, elementwise_affine=False, eps=0.01),
        C,
        covers="rms_norm",
    ),
    _tokens("rms_norm over two axes", lambda: nn.RMSNorm((4, 6), eps=0.1), C, covers="rms_norm"),
    _tokens(
        "rms_norm of what is not zero",
        lambda: nn.RMSNorm(6, eps=0.1),
        A,
        covers="rms_norm",
        act=torch.sigmoid,
    ),
    Case(
        "rms_norm of heads",
        "rms_norm",
        lambda: {"a": nn.Linear(3, 12), "b": nn.RMSNorm(3, eps=0.1), "z": nn.Linear(12, 2)},
        lambda m, x: m.z(m.b(m.a(x).view(5, 4, 3)).flatten(1)),
        {"a.weight:0/0[4]": Z, "a.weight:0/1[3]": C},
    ),
    Case(
        "rms_norm beside the axis",
        "rms_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.RMSNorm(4, eps=0.1), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x).mT).mT),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
    Case(
        "rms_norm of a residual stream",
        "rms_norm",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": nn.RMSNorm(6, eps=0.1),
            "c": nn.Linear(6, 6),
            "z": nn.Linear(6, 2),
        },
        lambda m, x: m.z(m.b((y := m.a(x)) + m.c(m.b(y)))),
        {"a.weight:0[6]": C},
        ((5, 4, 3),),
    ),
    tokens(
        "rms_norm written out",
        lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 0.1).rsqrt(),
        C,
        covers="pow mean rsqrt",
    ),
)

GROUP = (
    _norm(
        "group_norm",
        lambda: nn.GroupNorm(2, 6),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": C},
        covers="group_norm",
    ),
    _norm(
        "group_norm not affine",
        lambda: nn.GroupNorm(2, 6, affine=False),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": C},
        covers="group_norm",
    ),
    _norm(
        "group_norm with a group for each channel",
        lambda: nn.GroupNorm(6, 6),
        Z,
        covers="group_norm",
    ),
    _norm("group_norm with one group", lambda: nn.GroupNorm(1, 6), C, covers="group_norm"),
    _norm(
        "group_norm after what is not zero",
        lambda: nn.GroupNorm(3, 6),
        {"a.weight:0/0[3]": Z, "a.weight:0/1[2]": A},
        covers="group_norm",
        act=torch.sigmoid,
    ),
    Case(
        "group_norm of vectors",
        "group_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.GroupNorm(2, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0/0[2]": Z, "a.weight:0/1[3]": C},
    ),
    Case(
        "group_norm beside the axis",
        "group_norm",
        lambda: {"a": nn.Linear(3, 6), "b": nn.GroupNorm(2, 4), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(m.b(m.a(x))),
        {},
        ((5, 4, 3),),
    ),
)

INSTANCE = (
    _norm("instance_norm", lambda: nn.InstanceNorm2d(6, affine=True), Z, covers="instance_norm"),
    _norm("instance_norm not affine", lambda: nn.InstanceNorm2d(6), Z, covers="instance_norm"),
    _norm(
        "instance_norm with running statistics",
        lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
        Z,
        covers="instance_norm",
    ),
)


WEIGHT = (
    Case(
        "_weight_norm",
        "_weight_norm",
        lambda: {"a": nn.Linear(3, 6), "weight": free(4, 6), "g": free(4, 1), "z": nn.Linear(4, 2)},
        lambda m, x: m.z(F.linear(m.a(x), torch._weight_norm(m.weight, m.g, 0))),
        {"weight:0[4]": Z, "weight:1[6]": M},
    ),
    Case(
        "weight_norm over a whole weight",
        "_weight_norm",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": parametrizations.weight_norm(nn.Linear(6, 4), dim=None),
            "z": nn.Linear(4, 2),
        },
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": M, "b.bias:0[4]": M},
        weaker="one number normalizes what makes units and what reads them alike",
    ),
    Case(
        "weight_norm parametrization",
        "_weight_norm",
        lambda: {
            "a": nn.Linear(3, 6),
            "b": parametrizations.weight_norm(nn.Linear(6, 4)),
            "z": nn.Linear(4, 2),
        },
        lambda m, x: m.z(m.b(m.a(x))),
        {"a.weight:0[6]": M, "b.bias:0[4]": Z},
    ),
    Case(
        "l2 normalised vectors",
        "linalg_vector_norm",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(F.normalize(m.a(x), dim=-1)),
        {"a.weight:0[6]": Z},
    ),
    Case(
        "l2 normalised beside the axis",
        "linalg_vector_norm",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(6, 2)},
        lambda m, x: m.z(F.normalize(m.a(x), dim=1)),
        {"a.weight:0[6]": Z},
        ((5, 4, 3),),
    ),
)

NORMALIZATION = (*BATCH, *LAYER, *RMS, *GROUP, *INSTANCE, *WEIGHT)
