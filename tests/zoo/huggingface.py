"""Networks of transformers: two layers each, realistic head counts, a vocabulary of 1000."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.row import ZooModel, row
from tests.zoo.shim import ensure_torchvision

Feed = Callable[[torch.Generator], dict[str, Tensor]]

VOCABULARY = 1000


def _row(
    name: str,
    model: str,
    config: dict[str, Any],
    feed: Feed,
    *,
    notes: str,
    **options: Any,
) -> ZooModel:
    """A row for `transformers.<model>` with the config class that belongs to it."""

    def make() -> nn.Module:
        ensure_torchvision()
        import transformers

        network = getattr(transformers, model)
        return network(network.config_class(**config, **options))

    def inputs() -> dict[str, Any]:
        return dict(feed(torch.Generator().manual_seed(1)))

    return row(f"hf_{name}", make, inputs, notes)


def _tokens(rng: torch.Generator, length: int = 13) -> Tensor:
    return torch.randint(3, VOCABULARY, (2, length), generator=rng)


def _text(rng: torch.Generator) -> dict[str, Tensor]:
    """Two token sequences, the second three tokens shorter and padded on the right."""
    mask = torch.ones(2, 13, dtype=torch.int64)
    mask[1, -3:] = 0
    return {"input_ids": _tokens(rng), "attention_mask": mask}


def _translation(rng: torch.Generator) -> dict[str, Tensor]:
    return {**_text(rng), "decoder_input_ids": _tokens(rng, 7)}


def _image(*size: int) -> Feed:
    return lambda rng: {"pixel_values": torch.randn(2, 3, *size, generator=rng)}


def _speech(rng: torch.Generator) -> dict[str, Tensor]:
    return {"input_values": torch.randn(2, 4000, generator=rng)}


def _spectrogram(rng: torch.Generator) -> dict[str, Tensor]:
    return {
        "input_features": torch.randn(2, 80, 100, generator=rng),
        "decoder_input_ids": _tokens(rng, 7),
    }


def _captioned(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images against three texts."""
    texts = torch.randint(3, VOCABULARY, (3, 13), generator=rng)
    return {"input_ids": texts, **_image(64, 64)(rng)}


_VOCABULARY = {
    "vocab_size": VOCABULARY,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_WIDTHS = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 2}
_ENCODER = {**_VOCABULARY, **_WIDTHS, "num_attention_heads": 4, "max_position_embeddings": 64}
_DECODER = {
    **_VOCABULARY,
    **_WIDTHS,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
}
_SEQ2SEQ = {
    **_VOCABULARY,
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
_T5 = {
    **_VOCABULARY,
    "decoder_start_token_id": 0,
    "d_model": 256,
    "d_kv": 48,
    "d_ff": 640,
    "num_layers": 2,
    "num_heads": 6,
    "use_cache": False,
}
_VIT = {
    "image_size": 64,
    "patch_size": 16,
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "num_labels": 10,
}
_CLIP = {
    "text_config": _ENCODER,
    "vision_config": {**_VIT, "hidden_size": 384, "num_attention_heads": 6},
    "projection_dim": 128,
}
_SWIN = {"image_size": 112, "depths": [2, 2], "num_heads": [3, 6], "num_labels": 10}
_DISTILBERT = {
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 64,
    "dim": 256,
    "hidden_dim": 640,
    "n_layers": 2,
    "n_heads": 4,
    "num_labels": 3,
}
_GPT2 = {
    **_VOCABULARY,
    "n_positions": 64,
    "n_embd": 256,
    "n_layer": 2,
    "n_head": 4,
    "use_cache": False,
}
_OPT = {
    **_VOCABULARY,
    "hidden_size": 256,
    "word_embed_proj_dim": 128,
    "ffn_dim": 640,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "use_cache": False,
}
_WHISPER = {
    **_SEQ2SEQ,
    "d_model": 384,
    "num_mel_bins": 80,
    "max_source_positions": 50,
    "max_target_positions": 32,
}
_WAV2VEC2 = {**_WIDTHS, "num_attention_heads": 4, "apply_spec_augment": False, "vocab_size": 32}
_MOBILEBERT = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "max_position_embeddings": 64,
}
_ALBERT = {**_ENCODER, "embedding_size": 96}
_ELECTRA = {**_ENCODER, "embedding_size": 96, "num_labels": 5}

TRANSFORMERS: tuple[ZooModel, ...] = (
    _row("bert", "BertForMaskedLM", _ENCODER, _text, notes="tied output embedding"),
    _row(
        "bert_eager",
        "BertForSequenceClassification",
        _ENCODER,
        _text,
        num_labels=3,
        attn_implementation="eager",
        notes="attention written as matmul and softmax",
    ),
    _row("distilbert", "DistilBertForSequenceClassification", _DISTILBERT, _text, notes="pooled"),
    _row("albert", "AlbertForMaskedLM", _ALBERT, _text, notes="one layer's weights used twice"),
    _row("electra", "ElectraForTokenClassification", _ELECTRA, _text, notes="narrow embedding"),
    _row("roberta", "RobertaForMaskedLM", _ENCODER, _text, notes="positions from a cumulative sum"),
    _row("mobilebert", "MobileBertForMaskedLM", _MOBILEBERT, _text, notes="bottlenecks, trigrams"),
    _row("gpt2", "GPT2LMHeadModel", _GPT2, _text, notes="fused qkv, Conv1D, tied head"),
    _row("opt", "OPTForCausalLM", _OPT, _text, notes="projections around the embedding"),
    _row(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {**_ENCODER, "use_cache": False},
        _text,
        notes="qkv interleaved per head, parallel residual, partial rotary",
    ),
    _row("llama", "LlamaForCausalLM", _DECODER, _text, notes="grouped queries, rotary, SwiGLU"),
    _row("mistral", "MistralForCausalLM", _DECODER, _text, sliding_window=6, notes="window"),
    _row("qwen2", "Qwen2ForCausalLM", _DECODER, _text, notes="qkv bias"),
    _row(
        "qwen3",
        "Qwen3ForCausalLM",
        _DECODER,
        _text,
        head_dim=48,
        notes="norm of each head's q and k, heads wider in sum than the model",
    ),
    _row(
        "gemma",
        "GemmaForCausalLM",
        {**_DECODER, "num_key_value_heads": 1},
        _text,
        head_dim=64,
        notes="one kv head, gain 1 + weight, scaled embedding, tied head",
    ),
    _row("phi3", "Phi3ForCausalLM", _DECODER, _text, notes="fused qkv, fused gate and up"),
    _row(
        "mixtral",
        "MixtralForCausalLM",
        _DECODER,
        _text,
        num_local_experts=4,
        num_experts_per_tok=2,
        notes="routed experts",
    ),
    _row("t5", "T5ForConditionalGeneration", _T5, _translation, notes="position bias, tied head"),
    _row(
        "t5_gated",
        "T5ForConditionalGeneration",
        _T5,
        _translation,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        notes="gated feed-forward, free head",
    ),
    _row("bart", "BartForConditionalGeneration", _SEQ2SEQ, _translation, notes="cross-attention"),
    _row("whisper", "WhisperForConditionalGeneration", _WHISPER, _spectrogram, notes="1-d stem"),
    _row("wav2vec2", "Wav2Vec2ForCTC", _WAV2VEC2, _speech, notes="weight norm, grouped conv1d"),
    _row("vit", "ViTForImageClassification", _VIT, _image(64, 64), notes="class token"),
    _row(
        "deit",
        "DeiTForImageClassificationWithTeacher",
        _VIT,
        _image(64, 64),
        notes="distillation token, two heads averaged",
    ),
    _row("swin", "SwinForImageClassification", _SWIN, _image(112, 112), notes="shifted windows"),
    _row(
        "segformer",
        "SegformerForSemanticSegmentation",
        {"num_labels": 10},
        _image(64, 96),
        notes="spatial reduction, multi-scale decoder",
    ),
    _row("clip", "CLIPModel", _CLIP, _captioned, notes="two towers, cosine similarity"),
)
