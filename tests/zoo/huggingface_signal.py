"""Speech, audio and time-series models of transformers."""

import torch
from torch import Tensor

from tests.zoo.huggingface import ENCODER, IDS, SEQ2SEQ, VOCABULARY, WIDTHS, speech, tokens
from tests.zoo.huggingface import transformer as _row
from tests.zoo.row import ZooModel


def _spectrogram(rng: torch.Generator) -> dict[str, Tensor]:
    return {
        "input_features": torch.randn(2, 80, 100, generator=rng),
        "decoder_input_ids": tokens(rng, 7),
    }


def _frames(rng: torch.Generator) -> dict[str, Tensor]:
    """Two spectrograms, time first."""
    return {
        "input_features": torch.randn(2, 100, 80, generator=rng),
        "decoder_input_ids": tokens(rng, 7),
    }


def _mel(rng: torch.Generator) -> dict[str, Tensor]:
    return {"input_values": torch.randn(2, 64, 64, generator=rng)}


def _series(rng: torch.Generator) -> dict[str, Tensor]:
    """Two histories of 24 steps and three channels."""
    return {"past_values": torch.randn(2, 24, 3, generator=rng)}


def _forecast(rng: torch.Generator) -> dict[str, Tensor]:
    """Two histories and futures of one series, with a calendar feature."""
    return {
        "past_values": torch.randn(2, 31, generator=rng),
        "past_time_features": torch.randn(2, 31, 1, generator=rng),
        "past_observed_mask": torch.ones(2, 31),
        "future_values": torch.randn(2, 8, generator=rng),
        "future_time_features": torch.randn(2, 8, 1, generator=rng),
    }


_WHISPER = {
    **SEQ2SEQ,
    "d_model": 384,
    "num_mel_bins": 80,
    "max_source_positions": 50,
    "max_target_positions": 32,
}
_WAV2VEC2 = {**WIDTHS, "num_attention_heads": 4, "apply_spec_augment": False, "vocab_size": 32}
_FORECASTER = {
    "prediction_length": 8,
    "context_length": 24,
    "lags_sequence": [1, 2, 7],
    "num_time_features": 1,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "scaling": "mean",
    "use_cache": False,
}
_CLAP = {
    "text_config": {**ENCODER, "projection_dim": 64},
    "audio_config": {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_embeds_hidden_size": 32,
        "hidden_size": 128,
        "depths": [1, 1, 1],
        "num_attention_heads": [2, 2, 4],
        "window_size": 4,
        "projection_dim": 64,
        "enable_fusion": False,
    },
    "projection_dim": 64,
}

SIGNAL: tuple[ZooModel, ...] = (
    _row(
        "whisper",
        "WhisperForConditionalGeneration",
        _WHISPER,
        _spectrogram,
        slow=True,
        notes="1-d stem",
    ),
    _row(
        "speech_to_text",
        "Speech2TextForConditionalGeneration",
        {
            **SEQ2SEQ,
            "input_feat_per_channel": 80,
            "conv_channels": 64,
            "max_source_positions": 200,
            "max_target_positions": 32,
        },
        _frames,
        slow=True,
        notes="GLU convolutions",
    ),
    _row(
        "wav2vec2",
        "Wav2Vec2ForCTC",
        _WAV2VEC2,
        speech,
        slow=True,
        notes="weight norm, grouped conv1d",
    ),
    _row(
        "wav2vec2_conformer",
        "Wav2Vec2ConformerForCTC",
        _WAV2VEC2,
        speech,
        position_embeddings_type="rotary",
        slow=True,
        notes="convolution modules, rotary",
    ),
    _row(
        "hubert", "HubertForCTC", _WAV2VEC2, speech, slow=True, notes="grouped position convolution"
    ),
    _row("wavlm", "WavLMForCTC", _WAV2VEC2, speech, slow=True, notes="gated relative position"),
    _row(
        "ast",
        "ASTForAudioClassification",
        {
            **WIDTHS,
            "num_attention_heads": 4,
            "max_length": 64,
            "num_mel_bins": 64,
            "num_labels": 10,
        },
        _mel,
        notes="overlapping patches of a spectrogram",
    ),
    _row(
        "clap",
        "ClapModel",
        _CLAP,
        lambda rng: {
            "input_ids": torch.randint(3, VOCABULARY, (2, 13), generator=rng),
            "input_features": torch.randn(2, 1, 256, 16, generator=rng),
        },
        slow=True,
        notes="windows over a folded spectrogram",
    ),
    _row(
        "hifigan",
        "SpeechT5HifiGan",
        {
            "model_in_dim": 20,
            "upsample_initial_channel": 32,
            "upsample_rates": [4, 4],
            "upsample_kernel_sizes": [8, 8],
            "resblock_kernel_sizes": [3, 5],
            "resblock_dilation_sizes": [[1, 3], [1, 3]],
        },
        lambda rng: {"spectrogram": torch.randn(2, 12, 20, generator=rng)},
        notes="transposed convolutions, summed residual branches",
    ),
    _row(
        "dac",
        "DacModel",
        {
            "encoder_hidden_size": 16,
            "downsampling_ratios": [2, 4],
            "decoder_hidden_size": 32,
            "n_codebooks": 2,
            "codebook_size": 32,
            "codebook_dim": 4,
        },
        lambda rng: {"input_values": torch.randn(2, 1, 320, generator=rng)},
        slow=True,
        notes="snake activations, residual quantizer",
    ),
    _row(
        "patchtst",
        "PatchTSTForPrediction",
        {
            "num_input_channels": 3,
            "context_length": 24,
            "patch_length": 4,
            "patch_stride": 4,
            "prediction_length": 8,
            "d_model": 32,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "ffn_dim": 48,
            "use_cls_token": False,
        },
        _series,
        slow=True,
        notes="patches of each channel",
    ),
    _row(
        "patchtsmixer",
        "PatchTSMixerForPrediction",
        {
            "num_input_channels": 3,
            "context_length": 24,
            "patch_length": 4,
            "patch_stride": 4,
            "prediction_length": 8,
            "d_model": 32,
            "num_layers": 2,
            "mode": "mix_channel",
        },
        _series,
        slow=True,
        notes="gated mixers along three axes",
    ),
    _row(
        "time_series",
        "TimeSeriesTransformerModel",
        _FORECASTER,
        _forecast,
        slow=True,
        notes="lags, scaling",
    ),
    _row(
        "informer",
        "InformerModel",
        # Sparse attention draws the keys that it compares: such a network is refused.
        {**_FORECASTER, "attention_type": "full", "distil": False},
        _forecast,
        slow=True,
        notes="every query attends",
    ),
    _row(
        "decision",
        "DecisionTransformerModel",
        {
            **IDS,
            "state_dim": 5,
            "act_dim": 3,
            "hidden_size": 32,
            "n_layer": 2,
            "n_head": 2,
            "max_ep_len": 20,
            "n_positions": 64,
        },
        lambda rng: {
            "states": torch.randn(2, 4, 5, generator=rng),
            "actions": torch.randn(2, 4, 3, generator=rng),
            "rewards": torch.randn(2, 4, 1, generator=rng),
            "returns_to_go": torch.randn(2, 4, 1, generator=rng),
            "timesteps": torch.arange(4).expand(2, 4),
            "attention_mask": torch.ones(2, 4),
        },
        slow=True,
        notes="three streams interleaved",
    ),
)
