"""Pooling, resampling, unfolding: channels pass, pixels are pinned."""

import torch.nn.functional as F
from torch import nn

from tests.operators.case import Case, Z, aten, image


def _gradient_of_max_pool(x):
    y, indices = aten.max_pool2d_with_indices(x, [2, 2], [2, 2])
    return aten.max_pool2d_with_indices_backward(
        y, x, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
    )


SIZES = {1: (8,), 2: (8, 8), 3: (4, 4, 4)}
UP = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _pools(rank):
    size = SIZES[rank]

    def of(name, *arguments):
        return image(
            f"{name}{rank}d", lambda x: getattr(F, f"{name}{rank}d")(x, *arguments), Z, size=size
        )

    return (
        of("max_pool", 2),
        of("avg_pool", 2),
        of("adaptive_avg_pool", 2),
        image(
            f"adaptive_max_pool{rank}d",
            lambda x: getattr(aten, f"adaptive_max_pool{rank}d")(x, [2] * rank)[0],
            Z,
            size=size,
        ),
        image(
            f"max_pool{rank}d_with_indices",
            lambda x: getattr(aten, f"max_pool{rank}d_with_indices")(x, [2] * rank)[0],
            Z,
            size=size,
        ),
        image(f"upsample_nearest{rank}d", lambda x: F.interpolate(x, scale_factor=2), Z, size=size),
        image(
            f"_upsample_nearest_exact{rank}d",
            lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
            Z,
            size=size,
        ),
        image(
            f"upsample_{UP[rank]}{rank}d",
            lambda x: F.interpolate(x, scale_factor=2, mode=UP[rank]),
            Z,
            size=size,
        ),
    )


POOLING = (
    *(case for rank in SIZES for case in _pools(rank)),
    image(
        "adaptive_avg_pool2d to one pixel",
        lambda x: F.adaptive_avg_pool2d(x, 1),
        Z,
        covers="adaptive_avg_pool2d",
    ),
    image("upsample_bicubic2d", lambda x: F.interpolate(x, size=(5, 7), mode="bicubic"), Z),
    image(
        "_upsample_bilinear2d_aa",
        lambda x: F.interpolate(x, size=(5, 7), mode="bilinear", antialias=True),
        Z,
    ),
    image(
        "_upsample_bicubic2d_aa",
        lambda x: F.interpolate(x, size=(5, 7), mode="bicubic", antialias=True),
        Z,
    ),
    image("lp_pool2d", lambda x: F.lp_pool2d(x, 2, 2), Z, covers="avg_pool2d pow"),
    image("max_pool2d_with_indices_backward", _gradient_of_max_pool, Z),
    Case(
        "max_pool over channels seen as pixels",
        "max_pool1d",
        lambda: {"a": nn.Linear(3, 6), "z": nn.Linear(3, 2)},
        lambda m, x: m.z(F.max_pool1d(m.a(x), 2)),
        {},
        ((5, 4, 3),),
    ),
    Case(
        "a map resized to the size of another",
        "upsample_bilinear2d",
        lambda: {"a": nn.Conv2d(3, 6, 1), "b": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x, y: m.z(F.interpolate(m.a(x), size=y.shape[2:], mode="bilinear") + m.b(y)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4), (2, 3, 7, 5)),
    ),
    Case(
        "grid_sampler",
        "grid_sampler",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x, g: m.z(F.grid_sample(m.a(x), g.tanh(), align_corners=False)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4), (2, 5, 7, 2)),
    ),
    Case(
        "grid_sampler_2d",
        "grid_sampler_2d",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x, g: m.z(aten.grid_sampler_2d(m.a(x), g.tanh(), 0, 0, False)),
        {"a.weight:0[6]": Z},
        ((2, 3, 4, 4), (2, 5, 7, 2)),
    ),
    Case(
        "a learned sampling grid",
        "grid_sampler",
        lambda: {
            "a": nn.Conv2d(3, 6, 1),
            "g": nn.Conv2d(3, 4, 1),
            "g2": nn.Conv2d(4, 2, 1),
            "z": nn.Conv2d(6, 2, 1),
        },
        lambda m, x: m.z(
            F.grid_sample(m.a(x), m.g2(m.g(x)).permute(0, 2, 3, 1).tanh(), align_corners=False)
        ),
        {"a.weight:0[6]": Z, "g.weight:0[4]": Z},
        ((2, 3, 4, 4),),
    ),
    Case(
        "im2col",
        "im2col",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Linear(54, 2)},
        lambda m, x: m.z(F.unfold(m.a(x), 3).mT),
        {"a.weight:0[6]": Z},
        ((2, 3, 5, 5),),
    ),
    Case(
        "col2im",
        "col2im",
        lambda: {"a": nn.Linear(3, 24), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(F.fold(m.a(x).mT, (4, 4), 2, stride=2)),
        {"a.weight:0/0[6]": Z},
        ((2, 4, 3),),
    ),
    Case(
        "a mask of pooled values",
        "max_pool2d gt",
        lambda: {"a": nn.Conv2d(3, 6, 1), "z": nn.Conv2d(6, 2, 1)},
        lambda m, x: m.z(F.max_pool2d(y := m.a(x), 3, 1, 1) * (y > 0)),
        {"a.weight:0[6]": Z},
        ((2, 3, 5, 5),),
    ),
)
