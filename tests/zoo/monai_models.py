"""Networks of monai: volumes, small."""

from typing import Any

from torch import nn

from tests.zoo.row import ZooModel, normal, row
from tests.zoo.shim import ensure_torchvision


def _row(
    name: str, model: str, size: tuple[int, ...] = (16, 16, 16), *, notes: str, **config: Any
) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        from monai.networks import nets

        return getattr(nets, model)(**config)

    return row(f"monai_{name}", make, normal((2, 1, *size)), notes, cheap=False)


_VOLUME = {"spatial_dims": 3, "in_channels": 1, "out_channels": 3}
_KERNELS = {
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [8, 12, 16],
}

MONAI: tuple[ZooModel, ...] = (
    _row(
        "unet",
        "UNet",
        **_VOLUME,
        channels=(8, 16, 24),
        strides=(2, 2),
        num_res_units=2,
        notes="residual units, instance norm, PReLU",
    ),
    _row(
        "attention_unet",
        "AttentionUnet",
        **_VOLUME,
        channels=(8, 16, 24),
        strides=(2, 2),
        notes="gated skips",
    ),
    _row("segresnet", "SegResNet", **_VOLUME, init_filters=8, notes="pre-activation, GroupNorm"),
    _row("dynunet", "DynUNet", **_VOLUME, **_KERNELS, notes="configured U-Net, instance norm"),
    _row(
        "swin_unetr",
        "SwinUNETR",
        (64, 32, 32),
        **_VOLUME,
        feature_size=12,
        depths=(1, 1, 1, 1),
        num_heads=(2, 2, 4, 4),
        window_size=4,
        notes="3-d windows into a convolutional decoder",
    ),
    _row(
        "unetr",
        "UNETR",
        (32, 32, 32),
        **_VOLUME,
        img_size=(32, 32, 32),
        feature_size=8,
        hidden_size=48,
        mlp_dim=64,
        num_heads=4,
        notes="transformer features at four depths",
    ),
    _row("vnet", "VNet", (32, 32, 32), **_VOLUME, notes="repeated input, transposed convolutions"),
    _row(
        "densenet",
        "DenseNet",
        (32, 32, 32),
        **_VOLUME,
        init_features=8,
        growth_rate=6,
        block_config=(2, 2, 2),
        notes="dense blocks of volumes",
    ),
    _row(
        "highresnet",
        "HighResNet",
        **_VOLUME,
        layer_params=(
            {"name": "conv_0", "n_features": 8, "kernel_size": 3},
            {"name": "res_1", "n_features": 8, "kernels": (3, 3), "repeat": 1},
            {"name": "res_2", "n_features": 16, "kernels": (3, 3), "repeat": 1},
            {"name": "conv_1", "n_features": 20, "kernel_size": 1},
            {"name": "conv_2", "kernel_size": 1},
        ),
        notes="dilated, shortcuts padded with zeros",
    ),
)
