"""Networks of diffusers: U-Nets, autoencoders and diffusion transformers, a few blocks each."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.row import ZooModel, row
from tests.zoo.shim import ensure_torchvision

Feed = Callable[[torch.Generator], dict[str, Any]]


def _row(name: str, model: str, feed: Feed, *, notes: str, **config: Any) -> ZooModel:
    def make() -> nn.Module:
        ensure_torchvision()
        import diffusers

        return getattr(diffusers, model)(**config)

    def inputs() -> dict[str, Any]:
        return {**feed(torch.Generator().manual_seed(1)), "return_dict": False}

    return row(f"diffusers_{name}", make, inputs, notes, cheap=False)


def _noisy(*shape: int, **others: tuple[int, ...]) -> Feed:
    """Noisy samples of `shape` at two times, and whatever else is read."""

    def feed(rng: torch.Generator) -> dict[str, Tensor]:
        extra = {name: torch.randn(size, generator=rng) for name, size in others.items()}
        sample = torch.randn(2, *shape, generator=rng)
        return {"sample": sample, "timestep": torch.tensor([7.0, 300.0]), **extra}

    return feed


def _image(rng: torch.Generator) -> dict[str, Tensor]:
    return {"sample": torch.randn(2, 3, 32, 32, generator=rng)}


def _hidden(*shape: int, **others: tuple[int, ...]) -> Feed:
    """The same, of models that call their samples hidden states."""

    def feed(rng: torch.Generator) -> dict[str, Tensor]:
        fed = _noisy(*shape, **others)(rng)
        return {"hidden_states": fed.pop("sample"), **fed}

    return feed


def _labelled(rng: torch.Generator) -> dict[str, Tensor]:
    return {**_hidden(4, 8, 8)(rng), "class_labels": torch.tensor([1, 3])}


def _flux(rng: torch.Generator) -> dict[str, Tensor]:
    """Packed latents with their places, a text and its pooled vector."""
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0))
    return {
        **_hidden(16, 4, encoder_hidden_states=(2, 5, 32), pooled_projections=(2, 32))(rng),
        "img_ids": places,
        "txt_ids": torch.zeros(5, 3),
        "guidance": torch.tensor([3.5, 3.5]),
    }


_TEXT = {"encoder_hidden_states": (2, 5, 32)}
_BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}
_PLAIN = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
_CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
_CODER = {
    "down_block_types": ("DownEncoderBlock2D", "DownEncoderBlock2D"),
    "up_block_types": ("UpDecoderBlock2D", "UpDecoderBlock2D"),
}
_ATTENTION = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 2}

DIFFUSERS: tuple[ZooModel, ...] = (
    _row(
        "unet",
        "UNet2DModel",
        _noisy(3, 16, 16),
        **_BLOCKS,
        **_PLAIN,
        attention_head_dim=8,
        notes="time embedding, attention over pixels",
    ),
    _row(
        "unet_conditional",
        "UNet2DConditionModel",
        _noisy(4, 16, 16, **_TEXT),
        **_BLOCKS,
        **_CROSS,
        cross_attention_dim=32,
        attention_head_dim=4,
        notes="cross-attention to a text, GeGLU",
    ),
    _row(
        "unet_3d",
        "UNet3DConditionModel",
        _noisy(4, 2, 16, 16, **_TEXT),
        **_BLOCKS,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        notes="temporal convolutions and attention",
    ),
    _row(
        "controlnet",
        "ControlNetModel",
        _noisy(4, 16, 16, controlnet_cond=(2, 3, 32, 32), **_TEXT),
        **_BLOCKS,
        down_block_types=_CROSS["down_block_types"],
        cross_attention_dim=32,
        attention_head_dim=4,
        conditioning_embedding_out_channels=(8, 16),
        notes="features of every scale are outputs",
    ),
    _row("autoencoder_kl", "AutoencoderKL", _image, **_BLOCKS, **_CODER, notes="middle attention"),
    _row(
        "vq",
        "VQModel",
        _image,
        **_BLOCKS,
        **_CODER,
        num_vq_embeddings=32,
        vq_embed_dim=3,
        notes="nearest of a codebook",
    ),
    _row(
        "autoencoder_dc",
        "AutoencoderDC",
        _image,
        latent_channels=8,
        attention_head_dim=8,
        encoder_block_out_channels=(16, 32),
        decoder_block_out_channels=(16, 32),
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        notes="linear attention, shuffled shortcuts",
    ),
    _row(
        "dit",
        "DiTTransformer2DModel",
        _labelled,
        **_ATTENTION,
        in_channels=4,
        sample_size=8,
        norm_num_groups=8,
        num_embeds_ada_norm=10,
        notes="adaptive norms from a label",
    ),
    _row(
        "pixart",
        "PixArtTransformer2DModel",
        _hidden(4, 8, 8, **_TEXT),
        **_ATTENTION,
        in_channels=4,
        out_channels=8,
        sample_size=8,
        norm_num_groups=8,
        cross_attention_dim=32,
        caption_channels=32,
        use_additional_conditions=False,
        notes="one modulation for all blocks, cross-attention",
    ),
    _row(
        "sd3",
        "SD3Transformer2DModel",
        _hidden(4, 8, 8, **_TEXT, pooled_projections=(2, 32)),
        **_ATTENTION,
        in_channels=4,
        out_channels=4,
        sample_size=8,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
        notes="two streams attend jointly",
    ),
    _row(
        "flux",
        "FluxTransformer2DModel",
        _flux,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_attention_heads=4,
        attention_head_dim=16,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
        notes="double and single streams, rotary",
    ),
    _row(
        "sana",
        "SanaTransformer2DModel",
        _hidden(4, 8, 8, **_TEXT),
        **_ATTENTION,
        in_channels=4,
        out_channels=4,
        sample_size=8,
        num_cross_attention_heads=4,
        cross_attention_head_dim=8,
        cross_attention_dim=32,
        caption_channels=32,
        notes="linear attention, gated convolutions",
    ),
)
