"""The networks that are timed. Weights are random: times do not depend on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Network:
    """A network and what is made of it.

    Attributes:
        name: in tables.
        build: makes the module, given nothing.
        example: makes the input.
        encoder: whether it is made of linear layers, rather than of convolutions.
    """

    name: str
    build: Callable[[], nn.Module]
    example: Callable[[], torch.Tensor]
    encoder: bool = False


def _image() -> torch.Tensor:
    return torch.randn(1, 3, 224, 224)


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        from tests.zoo.shim import ensure_torchvision

        ensure_torchvision()
        import torchvision

        module: nn.Module = getattr(torchvision.models, name)()
        return module

    return build


def _lite() -> nn.Module:
    from efficientnet_lite_pytorch import EfficientNet

    module: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return module


class Encoder(nn.Module):
    """A BERT without its pooler; returns the last hidden states."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        from tests.zoo.shim import ensure_torchvision

        ensure_torchvision()  # transformers imports it
        from transformers import BertConfig, BertModel

        self.bert = BertModel(BertConfig(**settings), add_pooling_layer=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Shape [batch, length] to [batch, length, width]."""
        hidden: torch.Tensor = self.bert(tokens).last_hidden_state
        return hidden


MINILM = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12,
    "intermediate_size": 1536,
}  # fmt: skip


def _encoder(name: str, settings: dict[str, int], length: int) -> Network:
    return Network(
        f"{name}, length {length}",
        lambda: Encoder(**settings),
        lambda: torch.randint(0, 30_000, (1, length)),
        encoder=True,
    )


NETWORKS = (
    Network("MobileNetV2", _torchvision("mobilenet_v2"), _image),
    Network("EfficientNet-Lite0", _lite, _image),
    Network("ResNet-18", _torchvision("resnet18"), _image),
    _encoder("MiniLM", MINILM, 16),
    _encoder("MiniLM", MINILM, 128),
    _encoder("BERT-base", {}, 16),
    _encoder("BERT-base", {}, 128),
)


def formats_of(model: nn.Module, *, int8: bool = False) -> dict[str, str]:
    """A format for every layer with enough weights: the largest blocks that fit.

    Args:
        model: a network.
        int8: blocks of four inputs where there are products of 8-bit integers.
    """
    formats = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            sizes = (64, 32, 16, 8)
        elif isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels > 3:
            sizes = (4,) if int8 or module.kernel_size == (1, 1) else (8, 4)
        else:
            continue
        rows = next((size for size in sizes if len(module.weight) % size == 0), None)
        columns = 4 if int8 else 1
        if rows and module.weight.numel() >= 256 and module.weight.shape[1] % columns == 0:
            formats[f"{name}.weight"] = f"block {rows}x{columns}"
    return formats
