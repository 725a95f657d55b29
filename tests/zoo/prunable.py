"""What must be prunable: parameter axes, `parameter:dim`, that an exact group must own slices of.

Written down for the networks that stand for a construction, so that losing the construction fails
by name and not only as a smaller share of the parameters.
"""

_CELL = ("cell.weight_ih:0", "cell.weight_hh:1")
_LAYER = ("enter.weight:0", "cell.weight_ih_l0:0", "cell.weight_ih_l0:1", "cell.weight_hh_l0:1")
_EXPERTS = ("enter.weight:0", "up:2", "down:1")
_ROTARY = ("q.weight:0", "k.weight:0", "v.weight:0", "out.weight:0", "out.weight:1")

PRUNABLE: dict[str, tuple[str, ...]] = {
    "small_c2f": ("enter.0.weight:0", "leave.0.weight:1", "blocks.0.0.0.weight:0"),
    "small_cascade": ("enter.weight:0", "fuse.2.weight:0", "up.weight:0"),
    "small_conv_lstm": ("gates.weight:0", "gates.weight:1"),
    "small_experts_bmm": _EXPERTS,
    "small_experts_gather": _EXPERTS,
    "small_experts_loop": _EXPERTS,
    "small_gru": _LAYER,
    "small_gru_cell": _CELL,
    "small_lstm": _LAYER,
    "small_lstm_cell": _CELL,
    "small_lstm_projected": ("enter.weight:0", "cell.weight_hr_l0:0", "leave.weight:1"),
    "small_message_passing": ("message.0.weight:0", "message.2.weight:0", "update.weight_hh:1"),
    "small_rotary_halves": _ROTARY,
    "small_rotary_pairs": _ROTARY,
    "small_sampled_attention": ("stem.weight:0", "value.weight:0", "out.weight:1"),
    "small_selective_scan": ("enter.weight:0", "decay:0", "decay:1", "step.weight:1"),
    "small_shuffle": ("stem.0.weight:0", "expand.0.weight:0"),
    "small_styled_generator": ("constant:1", "map.0.weight:0", "first.weight:0"),
    "small_windows": ("table:1", "qkv.weight:0", "out.weight:1", "merge.weight:0"),
    "tv_resnet18": ("conv1.weight:0", "layer1.0.conv1.weight:0", "layer4.1.conv2.weight:0"),
    "tv_shufflenet_v2_x1_0": ("conv1.0.weight:0", "stage2.0.branch1.2.weight:0"),
    "hf_bert": (
        "bert.encoder.layer.0.attention.self.query.weight:0",
        "bert.encoder.layer.0.attention.self.value.weight:0",
        "bert.encoder.layer.0.intermediate.dense.weight:0",
    ),
    "hf_gpt2": (
        "transformer.h.0.attn.c_attn.weight:1",
        "transformer.h.0.attn.c_proj.weight:0",
        "transformer.h.0.mlp.c_fc.weight:1",
    ),
    "hf_llama": (
        "model.embed_tokens.weight:1",
        "model.layers.0.self_attn.k_proj.weight:0",
        "model.layers.0.self_attn.v_proj.weight:0",
        "model.layers.0.mlp.up_proj.weight:0",
    ),
    "hf_mixtral": ("model.layers.0.mlp.experts.gate_up_proj:1", "model.embed_tokens.weight:1"),
    "hf_deepseek_v3": (
        "model.layers.0.self_attn.q_a_proj.weight:0",
        "model.layers.0.self_attn.kv_a_proj_with_mqa.weight:0",
        "model.layers.0.self_attn.kv_b_proj.weight:0",
    ),
    "hf_mamba": ("backbone.layers.0.mixer.A_log:0", "backbone.layers.0.mixer.A_log:1"),
    "hf_t5": (
        "encoder.block.0.layer.0.SelfAttention.q.weight:0",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight:1",
        "decoder.block.0.layer.2.DenseReluDense.wi.weight:0",
    ),
    "hf_vit": ("vit.layers.0.attention.q_proj.weight:0", "vit.layers.0.mlp.fc1.weight:0"),
    "hf_whisper": ("model.encoder.conv1.weight:0", "model.encoder.layers.0.fc1.weight:0"),
    "pyg_gcn": ("first.lin.weight:0", "second.lin.weight:1"),
}
