"""What the rows of transformers share: how a row is made, what is fed, common configurations.

Two layers each, realistic head counts, a vocabulary of 1000.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.row import ZooModel, row
from tests.zoo.shim import ensure_torchvision

Feed = Callable[[torch.Generator], dict[str, Tensor]]

VOCABULARY = 1000


def transformer(
    name: str,
    model: str,
    config: dict[str, Any],
    feed: Feed,
    *,
    notes: str,
    slow: bool = False,
    **options: Any,
) -> ZooModel:
    """A row for `transformers.<model>` with the config class that belongs to it."""

    def make() -> nn.Module:
        ensure_torchvision()
        import transformers

        network = getattr(transformers, model)
        return network(network.config_class(**{**config, **options}))

    def inputs() -> dict[str, Any]:
        return dict(feed(torch.Generator().manual_seed(1)))

    return row(f"hf_{name}", make, inputs, notes, cheap=not slow)


def tokens(rng: torch.Generator, length: int = 13) -> Tensor:
    """Two token sequences."""
    return torch.randint(3, VOCABULARY, (2, length), generator=rng)


def text(rng: torch.Generator) -> dict[str, Tensor]:
    """Two token sequences, the second three tokens shorter and padded on the right."""
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[1, -3:] = 0
    return {"input_ids": tokens(rng), "attention_mask": mask}


def plain_text(rng: torch.Generator) -> dict[str, Tensor]:
    """Two token sequences without a mask."""
    return {"input_ids": tokens(rng, 16)}


def translation(rng: torch.Generator) -> dict[str, Tensor]:
    """Two source sequences and two target prefixes."""
    return {**text(rng), "decoder_input_ids": tokens(rng, 7)}


def image(*size: int) -> Feed:
    """Two images of `size`."""
    return lambda rng: {"pixel_values": torch.randn(2, 3, *size, generator=rng)}


def speech(rng: torch.Generator) -> dict[str, Tensor]:
    """Two clips of a quarter of a second."""
    return {"input_values": torch.randn(2, 4000, generator=rng)}


IDS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDTHS = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 2}
ENCODER = {**IDS, **WIDTHS, "num_attention_heads": 4, "max_position_embeddings": 64}
DECODER = {
    **IDS,
    **WIDTHS,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
}
SEQ2SEQ = {
    **IDS,
    "decoder_start_token_id": 0,
    "d_model": 256,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 640,
    "decoder_ffn_dim": 576,
    "max_position_embeddings": 64,
    "use_cache": False,
}
VIT = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_labels": 10,
}
