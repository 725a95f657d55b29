"""Families with a configuration: what `save_pretrained` writes loads, or is not written."""

import contextlib
import io
import warnings

import pytest
import torch
from torch import nn

import autoprune as ap
from tests.effort import sampled
from tests.tolerance import ROUNDING_SINGLE
from tests.zoo.shim import ensure_torchvision

IDS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ENCODER = {
    **IDS, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 40,
}  # fmt: skip
DECODER = {**ENCODER, "num_key_value_heads": 2}
HEADS = {**DECODER, "head_dim": 12}
GPT = {**IDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40}
FALCON = {**IDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
OPT = {**FALCON, "word_embed_proj_dim": 16, "ffn_dim": 80, "max_position_embeddings": 40}
DISTILBERT = {
    "vocab_size": 64, "max_position_embeddings": 40, "dim": 32, "hidden_dim": 80, "n_layers": 2,
    "n_heads": 4,
}  # fmt: skip
T5 = {
    **IDS, "d_model": 32, "d_kv": 16, "d_ff": 80, "num_layers": 2, "num_heads": 4,
    "decoder_start_token_id": 0,
}  # fmt: skip
SEQ2SEQ = {
    **IDS, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 80, "decoder_ffn_dim": 72,
    "decoder_start_token_id": 2,
}  # fmt: skip
WHISPER = {
    **SEQ2SEQ, "num_mel_bins": 8, "max_source_positions": 16, "max_target_positions": 32,
    "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip
MAMBA2 = {
    **IDS, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "num_heads": 8,
    "head_dim": 8, "n_groups": 2, "chunk_size": 8,
}  # fmt: skip
VIT = {
    "image_size": 16, "patch_size": 8, "hidden_size": 32, "intermediate_size": 80,
    "num_hidden_layers": 2, "num_attention_heads": 4,
}  # fmt: skip
WAV2VEC2 = {
    **ENCODER, "vocab_size": 32, "conv_dim": (16, 16), "conv_stride": (5, 2),
    "conv_kernel": (10, 3), "num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2}
LLAVA = {
    "vision_config": {**VIT, "model_type": "clip_vision_model"},
    "text_config": {**DECODER, "model_type": "llama"}, "image_token_index": 63,
    "vision_feature_layer": -1,
}  # fmt: skip
SMOLVLM = {
    "vision_config": {**VIT, "patch_size": 4}, "text_config": {**DECODER, "model_type": "llama"},
    "image_token_id": 63, "scale_factor": 2,
}  # fmt: skip
CLIP = {"text_config": ENCODER, "vision_config": VIT, "projection_dim": 24}

DRAWS = torch.Generator().manual_seed(1)
TOKENS = torch.randint(3, 60, (2, 9), generator=DRAWS)
PIXELS = torch.randn(2, 3, 16, 16, generator=DRAWS)
PLACES = TOKENS.clone()
PLACES[:, 1:5] = 63
TEXT = {"input_ids": TOKENS}
PAIRS = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :5]}
MELS = {
    "input_features": torch.randn(2, 8, 32, generator=DRAWS), "decoder_input_ids": TOKENS[:, :5]
}  # fmt: skip
IMAGE = {"pixel_values": PIXELS}
BOTH = {"input_ids": TOKENS, "pixel_values": PIXELS}

FAMILIES = {
    "bert": ("BertForSequenceClassification", ENCODER, TEXT),
    "roberta": ("RobertaForMaskedLM", ENCODER, TEXT),
    "distilbert": ("DistilBertForSequenceClassification", DISTILBERT, TEXT),
    "gpt2": ("GPT2LMHeadModel", GPT, TEXT),
    "gpt_neox": ("GPTNeoXForCausalLM", ENCODER, TEXT),
    "opt": ("OPTForCausalLM", OPT, TEXT),
    "bloom": ("BloomForCausalLM", {**IDS, "hidden_size": 32, "n_layer": 2, "n_head": 4}, TEXT),
    "falcon": ("FalconForCausalLM", FALCON, TEXT),
    "llama": ("LlamaForCausalLM", DECODER, TEXT),
    "mistral": ("MistralForCausalLM", {**DECODER, "sliding_window": 6}, TEXT),
    "qwen2": ("Qwen2ForCausalLM", DECODER, TEXT),
    "qwen3": ("Qwen3ForCausalLM", HEADS, TEXT),
    "qwen3_moe": (
        "Qwen3MoeForCausalLM", {**HEADS, **EXPERTS, "num_experts": 4, "moe_intermediate_size": 24},
        TEXT,
    ),
    "mixtral": ("MixtralForCausalLM", {**DECODER, **EXPERTS, "num_local_experts": 4}, TEXT),
    "gemma3": ("Gemma3ForCausalLM", {**DECODER, "head_dim": 8, "sliding_window": 6}, TEXT),
    "phi3": ("Phi3ForCausalLM", DECODER, TEXT),
    "olmo2": ("Olmo2ForCausalLM", DECODER, TEXT),
    "t5": ("T5ForConditionalGeneration", T5, PAIRS),
    "bart": ("BartForConditionalGeneration", {**SEQ2SEQ, "max_position_embeddings": 40}, PAIRS),
    "whisper": ("WhisperForConditionalGeneration", WHISPER, MELS),
    "mamba2": ("Mamba2ForCausalLM", MAMBA2, TEXT),
    "vit": ("ViTForImageClassification", VIT, IMAGE),
    "clip": ("CLIPModel", CLIP, BOTH),
    "llava": ("LlavaForConditionalGeneration", LLAVA, {**BOTH, "input_ids": PLACES}),
    "smolvlm": (
        "SmolVLMForConditionalGeneration", SMOLVLM,
        {"input_ids": PLACES, "pixel_values": PIXELS[:, None]},
    ),
    "wav2vec2": ("Wav2Vec2ForCTC", WAV2VEC2, {"input_values": torch.randn(2, 400)}),
}  # fmt: skip

NOT_DESCRIBED = ("bloom", "mamba2")
"""Their sizes follow from one that stays, so that nothing or too little is left to prune."""

MODES = {"keep_config": {"keep_config": True}, "uniform": {"uniform": True}, "neither": {}}
CASES = [f"{name} {mode}" for name in FAMILIES for mode in MODES]


def build(name: str) -> nn.Module:
    ensure_torchvision()
    import transformers

    torch.manual_seed(0)
    kind, config, _ = FAMILIES[name]
    model = getattr(transformers, kind)
    return model(model.config_class(**config)).eval()


def prune(name: str, **options: bool) -> ap.Result:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ap.BudgetWarning)
        return ap.prune(
            build(name), FAMILIES[name][2], params=0.7, criterion="random",
            options=ap.Options(**options),
        )  # fmt: skip


@pytest.mark.zoo
@pytest.mark.parametrize("case", ["t5 keep_config", *sampled(CASES, one_in=40)])
def test_what_is_written_loads(case, tmp_path):
    name, mode = case.split()
    inputs = FAMILIES[name][2]
    if mode == "keep_config" and name in NOT_DESCRIBED:
        with pytest.raises(ap.BudgetError, match="configuration"):
            prune(name, keep_config=True)
        return
    result = prune(name, **MODES[mode])
    small = result.model.eval()
    if any("cannot describe" in note for note in result.report.notes):
        assert mode != "keep_config"
        with pytest.raises(ap.AutopruneError, match="cannot describe"):
            small.save_pretrained(tmp_path)
        assert not list(tmp_path.iterdir())
        return
    with contextlib.redirect_stderr(io.StringIO()):
        small.save_pretrained(tmp_path)
        loaded = type(small).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(**inputs)[0], small(**inputs)[0], rtol=ROUNDING_SINGLE, atol=ROUNDING_SINGLE
        )


DECODERS = ("gpt2", "llama", "gemma3", "t5", "bart", "mamba2", "falcon", "bloom", "qwen3_moe")


@pytest.mark.zoo
@pytest.mark.parametrize("name", ["llama", *sampled(DECODERS, one_in=40)])
def test_generation_with_and_without_a_cache_agrees(name):
    small = prune(name).model.eval()
    inputs = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
    with_cache, without = (
        small.generate(**inputs, max_new_tokens=6, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(with_cache, without)
