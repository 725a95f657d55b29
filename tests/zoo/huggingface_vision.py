"""Image and image-text models of transformers."""

import torch
from torch import Tensor

from tests.zoo.huggingface import DECODER, ENCODER, IDS, VIT, VOCABULARY, image
from tests.zoo.huggingface import transformer as _row
from tests.zoo.row import ZooModel


def _captioned(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images against three texts."""
    texts = torch.randint(3, VOCABULARY, (3, 13), generator=rng)
    return {"input_ids": texts, **image(64, 64)(rng)}


def _paired(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images, each with a text."""
    texts = torch.randint(3, VOCABULARY, (2, 13), generator=rng)
    return {"input_ids": texts, **image(64, 64)(rng)}


def _prompted(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images, each in place of the sixteen tokens 3 before its text."""
    texts = torch.randint(4, VOCABULARY, (2, 13), generator=rng)
    return {"input_ids": torch.cat([torch.full((2, 16), 3), texts], 1), **image(64, 64)(rng)}


def _shuffled(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images with the noise by which their patches are shuffled."""
    return {**image(64, 64)(rng), "noise": torch.rand(2, 16, generator=rng)}


def _masked_image(rng: torch.Generator) -> dict[str, Tensor]:
    """Two images with their pixel masks."""
    return {**image(64, 64)(rng), "pixel_mask": torch.ones(2, 64, 64, dtype=torch.int64)}


def _video(rng: torch.Generator) -> dict[str, Tensor]:
    """Two clips of four frames."""
    return {"pixel_values": torch.randn(2, 4, 3, 32, 32, generator=rng)}


def _points(rng: torch.Generator) -> dict[str, Tensor]:
    """One image with one point prompt, twice."""
    return {
        "pixel_values": torch.randn(2, 3, 64, 64, generator=rng),
        "input_points": torch.rand(2, 1, 1, 2, generator=rng) * 64,
    }


_CLIP = {
    "text_config": ENCODER,
    "vision_config": {**VIT, "hidden_size": 384, "num_attention_heads": 6},
    "projection_dim": 128,
}
_SIGLIP = {"text_config": {**ENCODER, "projection_size": 192}, "vision_config": VIT}
_SWIN = {"image_size": 112, "depths": [2, 2], "num_heads": [3, 6], "num_labels": 10}
_RESNET = {
    "embedding_size": 32,
    "hidden_sizes": [48, 64, 96, 128],
    "depths": [1, 1, 1, 1],
    "num_labels": 10,
}
_BACKBONE = {"model_type": "resnet", **_RESNET, "out_features": ["stage2", "stage3", "stage4"]}
_DETR = {
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": {**_BACKBONE, "out_features": ["stage4"]},
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "num_queries": 10,
    "num_labels": 10,
}
_RT_DETR = {
    "use_timm_backbone": False,
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        **_RESNET,
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "encoder_in_channels": [64, 96, 128],
    "encoder_hidden_dim": 64,
    "encoder_ffn_dim": 96,
    "encoder_attention_heads": 4,
    "d_model": 64,
    "decoder_in_channels": [64, 64, 64],
    "decoder_ffn_dim": 96,
    "decoder_attention_heads": 4,
    "decoder_layers": 2,
    "num_queries": 10,
    "num_labels": 10,
    "eval_size": None,
}
_MASK2FORMER = {
    "backbone_config": {
        "model_type": "swin",
        "image_size": 64,
        "embed_dim": 32,
        "depths": [1, 1, 1, 1],
        "num_heads": [2, 2, 4, 4],
        "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "feature_size": 64,
    "mask_feature_size": 64,
    "hidden_dim": 64,
    "encoder_feedforward_dim": 96,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "num_attention_heads": 4,
    "dim_feedforward": 96,
    "num_queries": 10,
    "num_labels": 10,
}
_DPT = {
    **VIT,
    "num_hidden_layers": 4,
    "backbone_out_indices": [0, 1, 2, 3],
    "neck_hidden_sizes": [24, 32, 48, 64],
    "fusion_hidden_size": 32,
    "is_hybrid": False,
}
_SAM = {
    "vision_config": {
        "hidden_size": 64,
        "output_channels": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_pos_feats": 16,
        "image_size": 64,
        "patch_size": 8,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 128,
    },
    "prompt_encoder_config": {"hidden_size": 32, "image_size": 64, "patch_size": 8},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 64,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 32,
    },
}
_BLIP = {
    "text_config": {**ENCODER, "encoder_hidden_size": 192, "is_decoder": True},
    "vision_config": VIT,
    "projection_dim": 64,
    "image_text_hidden_size": 64,
}
_LLAVA = {
    "text_config": {"model_type": "llama", **DECODER},
    "vision_config": {"model_type": "clip_vision_model", **VIT},
    "image_token_index": 3,
    "vision_feature_layer": -1,
}

VISION: tuple[ZooModel, ...] = (
    _row("vit", "ViTForImageClassification", VIT, image(64, 64), notes="class token"),
    _row(
        "deit",
        "DeiTForImageClassificationWithTeacher",
        VIT,
        image(64, 64),
        slow=True,
        notes="distillation token, two heads averaged",
    ),
    _row(
        "swin",
        "SwinForImageClassification",
        _SWIN,
        image(112, 112),
        slow=True,
        notes="shifted windows",
    ),
    _row(
        "swinv2",
        "Swinv2ForImageClassification",
        {**_SWIN, "image_size": 64},
        image(64, 64),
        slow=True,
        notes="cosine attention",
    ),
    _row(
        "segformer",
        "SegformerForSemanticSegmentation",
        {"num_labels": 10},
        image(64, 96),
        slow=True,
        notes="spatial reduction, multi-scale decoder",
    ),
    _row(
        "convnextv2",
        "ConvNextV2ForImageClassification",
        {"depths": [1, 1, 2, 1], "hidden_sizes": [32, 48, 64, 96], "num_labels": 10},
        image(64, 96),
        slow=True,
        notes="global response norm",
    ),
    _row("dinov2", "Dinov2ForImageClassification", VIT, image(64, 64), notes="layer scale"),
    _row("dinov3", "DINOv3ViTModel", VIT, image(64, 64), notes="rotary patches, registers"),
    _row(
        "vit_mae",
        "ViTMAEModel",
        VIT,
        _shuffled,
        mask_ratio=0.0,
        notes="patches shuffled by noise",
    ),
    _row(
        "beit",
        "BeitForImageClassification",
        VIT,
        image(64, 64),
        use_relative_position_bias=True,
        slow=True,
        notes="bias table, no key bias",
    ),
    _row(
        "levit",
        "LevitForImageClassification",
        {"num_labels": 10},
        image(224, 224),
        slow=True,
        notes="linear-norm attention",
    ),
    _row(
        "pvt",
        "PvtForImageClassification",
        {"image_size": 64, "depths": [1, 1, 1, 1], "num_labels": 10},
        image(64, 64),
        slow=True,
        notes="spatial reduction",
    ),
    _row(
        "cvt",
        "CvtForImageClassification",
        {"depth": [1, 2, 3], "num_labels": 10},
        image(64, 64),
        slow=True,
        notes="convolutional projections",
    ),
    _row(
        "mobilevit",
        "MobileViTForImageClassification",
        {
            "image_size": 64,
            "num_labels": 10,
            "hidden_sizes": [48, 60, 72],
            "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96],
        },
        image(64, 64),
        slow=True,
        notes="unfold to patches",
    ),
    _row(
        "focalnet",
        "FocalNetForImageClassification",
        {"image_size": 64, "embed_dim": 32, "depths": [1, 1, 2, 1], "num_labels": 10},
        image(64, 64),
        slow=True,
        notes="focal modulation",
    ),
    _row(
        "yolos",
        "YolosForObjectDetection",
        {**VIT, "image_size": [64, 64]},
        image(64, 64),
        num_detection_tokens=10,
        slow=True,
        notes="detection tokens",
    ),
    _row(
        "detr",
        "DetrForObjectDetection",
        _DETR,
        _masked_image,
        slow=True,
        notes="queries, frozen norms",
    ),
    _row(
        "deformable_detr",
        "DeformableDetrForObjectDetection",
        {**_DETR, "backbone_config": _BACKBONE, "num_feature_levels": 3},
        _masked_image,
        slow=True,
        notes="sampled attention",
    ),
    _row(
        "rt_detr",
        "RTDetrForObjectDetection",
        _RT_DETR,
        image(64, 64),
        slow=True,
        notes="hybrid encoder, top queries",
    ),
    _row(
        "mask2former",
        "Mask2FormerForUniversalSegmentation",
        _MASK2FORMER,
        image(64, 64),
        slow=True,
        notes="masked attention, deformable pixel decoder",
    ),
    _row(
        "dpt", "DPTForDepthEstimation", _DPT, image(64, 64), slow=True, notes="reassemble and fuse"
    ),
    _row(
        "depth_anything",
        "DepthAnythingForDepthEstimation",
        {
            "backbone_config": {
                "model_type": "dinov2",
                **VIT,
                "patch_size": 16,
                "out_indices": [1, 2],
                "reshape_hidden_states": False,
            },
            "reassemble_hidden_size": 192,
            "patch_size": 16,
            "reassemble_factors": [1, 0.5],
            "neck_hidden_sizes": [24, 32],
            "fusion_hidden_size": 32,
            "head_in_index": -1,
            "head_hidden_size": 16,
        },
        image(64, 64),
        slow=True,
        notes="fused maps, depth head",
    ),
    _row(
        "upernet",
        "UperNetForSemanticSegmentation",
        {
            "backbone_config": {
                **_BACKBONE,
                "out_features": ["stage1", "stage2", "stage3", "stage4"],
            },
            "hidden_size": 32,
            "auxiliary_in_channels": 96,
            "num_labels": 10,
            "use_timm_backbone": False,
        },
        image(64, 64),
        slow=True,
        notes="pyramid pooling, two heads",
    ),
    _row(
        "sam",
        "SamModel",
        _SAM,
        _points,
        multimask_output=True,
        slow=True,
        notes="prompt encoder, two-way attention",
    ),
    _row(
        "swin2sr",
        "Swin2SRForImageSuperResolution",
        {
            "image_size": 32,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 2],
            "window_size": 8,
            "upscale": 2,
        },
        image(32, 32),
        slow=True,
        notes="windows, pixel shuffle",
    ),
    _row(
        "videomae",
        "VideoMAEForVideoClassification",
        {**VIT, "image_size": 32, "num_frames": 4},
        _video,
        notes="tubes",
    ),
    _row(
        "timesformer",
        "TimesformerForVideoClassification",
        {**VIT, "image_size": 32, "num_frames": 4},
        _video,
        slow=True,
        notes="time then space",
    ),
    _row(
        "imagegpt",
        "ImageGPTForImageClassification",
        {
            "vocab_size": 33,
            "n_positions": 64,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "num_labels": 10,
            "use_cache": False,
        },
        lambda rng: {"input_ids": torch.randint(32, (2, 16), generator=rng)},
        slow=True,
        notes="fused qkv, tokens of pixels",
    ),
)

VISION_LANGUAGE: tuple[ZooModel, ...] = (
    _row("clip", "CLIPModel", _CLIP, _captioned, notes="two towers, cosine similarity"),
    _row(
        "siglip", "SiglipModel", _SIGLIP, _captioned, slow=True, notes="attention pooling, sigmoid"
    ),
    _row(
        "align",
        "AlignModel",
        {
            "text_config": ENCODER,
            "vision_config": {
                "image_size": 64,
                "width_coefficient": 0.5,
                "depth_coefficient": 0.5,
                "hidden_dim": 640,
            },
            "projection_dim": 160,
        },
        _captioned,
        notes="efficientnet against a text encoder",
        slow=True,
    ),
    _row(
        "groupvit",
        "GroupViTModel",
        {
            "text_config": ENCODER,
            "vision_config": {
                **VIT,
                "depths": [1, 1, 1],
                "num_group_tokens": [8, 4, 0],
                "num_output_groups": [8, 4, 0],
            },
            "projection_dim": 64,
            "projection_intermediate_dim": 96,
        },
        _captioned,
        slow=True,
        notes="patches grouped by attention",
    ),
    _row(
        "blip", "BlipForConditionalGeneration", _BLIP, _paired, slow=True, notes="cross-attention"
    ),
    _row(
        "git",
        "GitForCausalLM",
        {**ENCODER, "vision_config": VIT, "use_cache": False},
        _paired,
        slow=True,
        notes="image prefix",
    ),
    _row(
        "llava", "LlavaForConditionalGeneration", _LLAVA, _prompted, slow=True, notes="image tokens"
    ),
    _row(
        "trocr",
        "TrOCRForCausalLM",
        {
            **IDS,
            "d_model": 256,
            "decoder_layers": 2,
            "decoder_attention_heads": 4,
            "decoder_ffn_dim": 640,
            "max_position_embeddings": 64,
            "use_cache": False,
            "decoder_start_token_id": 0,
        },
        lambda rng: {"input_ids": torch.randint(3, VOCABULARY, (2, 13), generator=rng)},
        slow=True,
        notes="decoder alone",
    ),
)
