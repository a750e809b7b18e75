"""The models of ``port_coverage.py``: timm's, one for each of its modules, and architectures of transformers.

The lists are not chosen for what works. timm: every module of ``timm.list_modules()`` that makes image
classifiers, by a small variant of its namesake family; images as small as the variant takes (larger where its
last BatchNorm would see a dozen values: its gradient is then mostly rounding), depth and width reduced where
its smallest variant is too large for two cores. transformers: tiny random configs of the architectures that
its task tables name (``TEXT``, ``SEQ2SEQ``, ``VISION``, ``AUDIO``, ``MIXED``).
Nothing is downloaded, weights are random.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

BATCH = 3
"""BatchNorm over two values gives one of two numbers, whatever the values: its gradient is rounding."""
LENGTH = 9


@dataclass(frozen=True)
class Example:
    """A module in eval mode, and its inputs by the names of ``forward``'s parameters."""

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Listed:
    """A model of the lists: ``family`` is timm's module, or the kind of architecture."""

    library: str
    family: str
    name: str
    make: Callable[[], Example]


def timm(name: str, size: int, **changes: Any) -> Example:
    """timm's model of this name, for images of this size."""
    import timm

    model = timm.create_model(name, num_classes=10, **changes)
    (first, *_) = inspect.signature(model.forward).parameters
    return Example(model.eval(), {first: torch.randn(BATCH, 3, size, size)})


TIMM: dict[str, tuple[str, int, dict[str, Any]]] = {
    "beit": ("beit_base_patch16_224", 64, {"img_size": 64, "depth": 2, "embed_dim": 96, "num_heads": 3}),
    "byoanet": ("halonet26t", 256, {}),
    "byobnet": ("mobileone_s0", 64, {}),
    "cait": ("cait_xxs24_224", 64, {"img_size": 64, "depth": 4}),
    "coat": ("coat_lite_tiny", 64, {"img_size": 64}),
    "convit": ("convit_tiny", 64, {"img_size": 64, "depth": 12}),
    "convmixer": ("convmixer_768_32", 64, {}),
    "convnext": ("convnext_atto", 64, {}),
    "cpubone": ("cpubone_nano", 64, {}),
    "crossvit": ("crossvit_tiny_240", 240, {}),
    "csatv2": ("csatv2", 256, {}),
    "cspnet": ("cs3darknet_focus_s", 64, {}),
    "cspnext": ("cspnext_tiny", 64, {}),
    "davit": ("davit_tiny", 64, {"depths": (1, 1, 2, 1)}),
    "deepseek_vit": ("deepseek_vit_412m", 56, {"depth": 2, "embed_dim": 128, "num_heads": 2}),
    "deit": ("deit_tiny_distilled_patch16_224", 64, {"img_size": 64, "depth": 4}),
    "densenet": ("densenet121", 64, {}),
    "dla": ("dla46_c", 64, {}),
    "dpn": ("dpn48b", 64, {}),
    "edgenext": ("edgenext_xx_small", 64, {}),
    "efficientformer": ("efficientformer_l1", 224, {}),
    "efficientformer_v2": ("efficientformerv2_s0", 224, {}),
    "efficientnet": ("efficientnet_b0", 64, {}),
    "efficientvim": ("efficientvim_m1", 128, {}),
    "efficientvit_mit": ("efficientvit_b0", 64, {}),
    "efficientvit_msra": ("efficientvit_m0", 224, {}),
    "eva": ("eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 4}),
    "fasternet": ("fasternet_t0", 64, {}),
    "fastvit": ("fastvit_t8", 64, {}),
    "focalnet": ("focalnet_tiny_srf", 64, {}),
    "gcvit": ("gcvit_xxtiny", 224, {}),
    "gemma4_vit": ("gemma4_vit_167m", 96, {"depth": 2, "embed_dim": 128, "num_heads": 2}),
    "ghostnet": ("ghostnet_050", 64, {}),
    "hardcorenas": ("hardcorenas_a", 64, {}),
    "hgnet": ("hgnetv2_b0", 128, {}),
    "hiera": ("hiera_tiny_224", 224, {"stages": (1, 1, 2, 1)}),
    "hieradet_sam2": ("hieradet_small", 128, {"stages": (1, 1, 2, 1)}),
    "hrnet": ("hrnet_w18_small", 64, {}),
    "iformer": ("iformer_t", 224, {}),
    "inception_next": ("inception_next_atto", 64, {}),
    "inception_resnet_v2": ("inception_resnet_v2", 128, {}),
    "inception_v3": ("inception_v3", 128, {}),
    "inception_v4": ("inception_v4", 128, {}),
    "lcnetv2": ("lcnetv2_small", 64, {}),
    "levit": ("levit_128s", 224, {}),
    "lowformer": ("lowformer_b0", 64, {}),
    "mambaout": ("mambaout_femto", 64, {}),
    "maxxvit": ("coatnet_pico_rw_224", 224, {}),
    "metaformer": ("caformer_s18", 64, {}),
    "mlp_mixer": ("mixer_s32_224", 64, {"img_size": 64}),
    "mobilenetv3": ("mobilenetv3_small_050", 64, {}),
    "mobilenetv5": ("mobilenetv5_300m", 128, {}),
    "mobilevit": ("mobilevit_xxs", 64, {}),
    "mvitv2": ("mvitv2_tiny", 64, {"img_size": 64}),
    "naflexvit": ("naflexvit_base_patch16_gap", 64, {"depth": 2, "embed_dim": 96, "num_heads": 3}),
    "nasnet": ("nasnetalarge", 96, {"stem_size": 32, "num_features": 576}),
    "nest": ("nest_tiny", 64, {"img_size": 64}),
    "nextvit": ("nextvit_small", 64, {"depths": (1, 1, 5, 1)}),
    "nfnet": ("nf_regnet_b0", 64, {}),
    "pit": ("pit_ti_224", 224, {}),
    "pnasnet": ("pnasnet5large", 96, {}),
    "pvt_v2": ("pvt_v2_b0", 64, {}),
    "qwen3_vit": ("qwen3_vit_88m", 64, {"depth": 2, "embed_dim": 128, "num_heads": 2}),
    "rdnet": ("rdnet_tiny", 64, {}),
    "regnet": ("regnety_002", 64, {}),
    "repghost": ("repghostnet_050", 64, {}),
    "repvit": ("repvit_m0_9", 64, {}),
    "res2net": ("res2net50_26w_4s", 64, {"layers": (1, 1, 2, 1)}),
    "resnest": ("resnest14d", 64, {}),
    "resnet": ("resnet18", 64, {}),
    "resnetv2": ("resnetv2_50x1_bit", 64, {}),
    "rexnet": ("rexnet_100", 64, {}),
    "selecsls": ("selecsls42b", 64, {}),
    "senet": ("legacy_seresnet18", 64, {}),
    "sequencer": ("sequencer2d_s", 112, {"layers": (1, 1, 2, 1)}),
    "shvit": ("shvit_s1", 128, {}),
    "sknet": ("skresnet18", 64, {}),
    "starnet": ("starnet_s050", 64, {}),
    "swiftformer": ("swiftformer_xs", 224, {}),
    "swin_transformer": ("swin_tiny_patch4_window7_224", 112, {"img_size": 112, "depths": (2, 2, 2, 2)}),
    "swin_transformer_v2": ("swinv2_tiny_window8_256", 128, {"img_size": 128, "depths": (2, 2, 2, 2)}),
    "swin_transformer_v2_cr": ("swinv2_cr_tiny_224", 224, {"depths": (2, 2, 2, 2)}),
    "tiny_vit": ("tiny_vit_5m_224", 224, {}),
    "tnt": ("tnt_s_patch16_224", 64, {"img_size": 64, "depth": 4}),
    "tresnet": ("tresnet_m", 64, {}),
    "twins": ("twins_svt_small", 224, {"depths": (1, 1, 2, 1)}),
    "vgg": ("vgg11_bn", 64, {}),
    "visformer": ("visformer_tiny", 64, {"img_size": 64}),
    "vision_transformer": ("vit_tiny_patch16_224", 64, {"img_size": 64, "depth": 4}),
    "vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", 64, {"img_size": 64, "depth": 4}),
    "vision_transformer_relpos": ("vit_relpos_small_patch16_224", 64, {"img_size": 64, "depth": 4}),
    "vision_transformer_sam": (
        "samvit_base_patch16",
        128,
        {"img_size": 128, "depth": 3, "embed_dim": 96, "num_heads": 3, "global_attn_indexes": (2,)},
    ),
    "vitamin": ("vitamin_small_224", 64, {"img_size": 64}),
    "volo": ("volo_d1_224", 64, {"img_size": 64}),
    "vovnet": ("ese_vovnet19b_slim_dw", 64, {}),
    "xception": ("legacy_xception", 64, {}),
    "xception_aligned": ("xception41", 64, {}),
    "xcit": ("xcit_nano_12_p16_224", 64, {"img_size": 64, "depth": 4}),
}
"""timm's module: a model of it, the width of its images, what is changed of it."""


TASKS = {
    "": "AutoModel",
    "lm": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "classes": "AutoModelForSequenceClassification",
    "seq2seq": "AutoModelForSeq2SeqLM",
    "image": "AutoModelForImageClassification",
    "segment": "AutoModelForSemanticSegmentation",
    "depth": "AutoModelForDepthEstimation",
    "detect": "AutoModelForObjectDetection",
    "pixels": "AutoModelForImageToImage",
    "mim": "AutoModelForMaskedImageModeling",
    "video": "AutoModelForVideoClassification",
    "audio": "AutoModelForAudioClassification",
    "ctc": "AutoModelForCTC",
    "speech": "AutoModelForSpeechSeq2Seq",
    "patches": "PatchTSTForPrediction",
    "mixed patches": "PatchTSMixerForPrediction",
    "image model": "ImageGPTForCausalImageModeling",
}
"""The class of a task, by a short name."""

TEXT_SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**TEXT_SIZES, "num_key_value_heads": 2, "head_dim": 8}
GPT_SIZES = {
    "vocab_size": 99,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SEQ2SEQ_SIZES = {
    "vocab_size": 99,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
T5_SIZES = {
    "vocab_size": 99,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
IMAGE = 32
VISION_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": IMAGE,
    "patch_size": 8,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "num_stages": 4}
WAVE_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 30,
    "conv_dim": [16, 16, 16],
    "conv_stride": [5, 4, 4],
    "conv_kernel": [10, 8, 4],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "apply_spec_augment": False,  # its masks are drawn in NumPy: they are data, not a part of the model
    "classifier_proj_size": 16,
}
MOE = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}


def text() -> dict[str, torch.Tensor]:
    """Sentences of tokens, the last one padded."""
    mask = torch.ones(BATCH, LENGTH, dtype=torch.long)
    mask[-1, -3:] = 0
    return {"input_ids": torch.randint(3, 99, (BATCH, LENGTH)), "attention_mask": mask}


def seq2seq() -> dict[str, torch.Tensor]:
    return {**text(), "decoder_input_ids": torch.randint(3, 99, (BATCH, LENGTH - 2))}


def image(size: int = IMAGE) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(BATCH, 3, size, size)}


def pair(size: int = IMAGE) -> dict[str, torch.Tensor]:
    return {**text(), **image(size)}


def wave() -> dict[str, torch.Tensor]:
    return {"input_values": torch.randn(BATCH, 2400)}


def spectrogram(bins: int, frames: int, name: str = "input_features") -> dict[str, torch.Tensor]:
    shape = (BATCH, bins, frames) if name == "input_features" else (BATCH, frames, bins)
    return {name: torch.randn(shape)}


Inputs = Callable[[], dict[str, torch.Tensor]]

TEXT: dict[str, tuple[str, dict[str, Any]]] = {
    # encoders
    "albert": ("masked", {**TEXT_SIZES, "embedding_size": 16}),
    "bert": ("classes", TEXT_SIZES),
    "big_bird": ("masked", {**TEXT_SIZES, "attention_type": "original_full"}),
    "camembert": ("masked", TEXT_SIZES),
    "convbert": ("masked", {**TEXT_SIZES, "embedding_size": 32}),
    "data2vec-text": ("masked", TEXT_SIZES),
    "deberta": ("masked", {**TEXT_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "deberta-v2": ("masked", {**TEXT_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "distilbert": ("masked", {"vocab_size": 99, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48}),
    "electra": ("masked", {**TEXT_SIZES, "embedding_size": 16}),
    "ernie": ("masked", TEXT_SIZES),
    "esm": ("masked", {**TEXT_SIZES, "mask_token_id": 4, "position_embedding_type": "rotary"}),
    "eurobert": ("masked", GROUPED),
    "flaubert": ("masked", {"vocab_size": 99, "emb_dim": 32, "n_layers": 2, "n_heads": 4}),
    "fnet": ("masked", TEXT_SIZES),
    "funnel": (
        "masked",
        {"vocab_size": 99, "block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 48},
    ),
    "ibert": ("masked", TEXT_SIZES),
    "layoutlm": ("masked", TEXT_SIZES),
    "longformer": ("masked", {**TEXT_SIZES, "attention_window": 4}),
    "luke": ("masked", {**TEXT_SIZES, "entity_vocab_size": 10, "entity_emb_size": 16}),
    "megatron-bert": ("masked", TEXT_SIZES),
    "mobilebert": (
        "masked",
        {**TEXT_SIZES, "embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    ),
    "modernbert": ("masked", {**TEXT_SIZES, "cls_token_id": 1, "sep_token_id": 2}),
    "mpnet": ("masked", TEXT_SIZES),
    "nomic_bert": ("masked", TEXT_SIZES),
    "nystromformer": ("masked", {**TEXT_SIZES, "num_landmarks": 4, "segment_means_seq_len": 4}),
    "rembert": ("masked", {**TEXT_SIZES, "input_embedding_size": 16, "output_embedding_size": 24}),
    "roberta": ("masked", TEXT_SIZES),
    "roc_bert": ("masked", {**TEXT_SIZES, "enable_shape": False, "enable_pronunciation": False}),
    "roformer": ("masked", {**TEXT_SIZES, "embedding_size": 16}),
    "squeezebert": ("masked", {**TEXT_SIZES, "embedding_size": 32}),
    "xlm": ("masked", {"vocab_size": 99, "emb_dim": 32, "n_layers": 2, "n_heads": 4}),
    "xlm-roberta": ("masked", TEXT_SIZES),
    "yoso": ("masked", {**TEXT_SIZES, "use_expectation": True}),
    # decoders
    "bloom": ("lm", {"vocab_size": 99, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "codegen": ("lm", {**GPT_SIZES, "rotary_dim": 4}),
    "cohere": ("lm", GROUPED),
    "ctrl": ("lm", {**GPT_SIZES, "dff": 48}),
    "deepseek_v3": (
        "lm",
        {**TEXT_SIZES, **MOE, "n_group": 2, "topk_group": 1, "q_lora_rank": 16, "kv_lora_rank": 16}
        | {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "first_k_dense_replace": 1},
    ),
    "falcon": ("lm", TEXT_SIZES),
    "gemma": ("lm", GROUPED),
    "gemma2": ("lm", GROUPED),
    "gemma3_text": ("lm", {**GROUPED, "sliding_window": 4}),
    "gpt2": ("lm", GPT_SIZES),
    "gpt_bigcode": ("lm", GPT_SIZES),
    "gpt_neo": (
        "lm",
        {
            **TEXT_SIZES,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
        },
    ),
    "gpt_neox": ("lm", TEXT_SIZES),
    "gpt_oss": ("lm", {**GROUPED, **MOE, "sliding_window": 4}),
    "gptj": ("lm", {**GPT_SIZES, "rotary_dim": 4}),
    "granite": ("lm", GROUPED),
    "jamba": (
        "lm",
        {**GROUPED, **MOE, "attn_layer_offset": 1, "attn_layer_period": 2, "use_mamba_kernels": False},
    ),
    "llama": ("lm", GROUPED),
    "mamba": ("lm", {**TEXT_SIZES, "state_size": 4, "time_step_rank": 4}),
    "mamba2": (
        "lm",
        {**TEXT_SIZES, "state_size": 4, "head_dim": 8, "num_heads": 8, "n_groups": 1, "chunk_size": 4},
    ),
    "mistral": ("lm", {**GROUPED, "sliding_window": 4}),
    "mixtral": ("lm", {**GROUPED, **MOE}),
    "mpt": ("lm", {"vocab_size": 99, "d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64}),
    "nemotron": ("lm", GROUPED),
    "olmo2": ("lm", GROUPED),
    "openai-gpt": ("lm", GPT_SIZES),
    "opt": ("lm", {**TEXT_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 32}),
    "persimmon": ("lm", TEXT_SIZES),
    "phi": ("lm", TEXT_SIZES),
    "phi3": ("lm", GROUPED),
    "qwen2": ("lm", GROUPED),
    "qwen2_moe": ("lm", {**GROUPED, **MOE, "shared_expert_intermediate_size": 24}),
    "qwen3": ("lm", GROUPED),
    "recurrent_gemma": ("lm", {**GROUPED, "lru_width": 32, "attention_window_size": 4, "num_hidden_layers": 3}),
    "rwkv": ("lm", {**TEXT_SIZES, "context_length": 64, "attention_hidden_size": 32}),
    "stablelm": ("lm", GROUPED),
    "starcoder2": ("lm", GROUPED),
    "xglm": (
        "lm",
        {**SEQ2SEQ_SIZES, "num_layers": 2, "attention_heads": 4, "ffn_dim": 48},
    ),
    "xlnet": ("lm", {"vocab_size": 99, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48}),
}
SEQ2SEQ: dict[str, tuple[str, dict[str, Any]]] = {
    "bart": ("seq2seq", SEQ2SEQ_SIZES),
    "blenderbot": ("seq2seq", SEQ2SEQ_SIZES),
    "fsmt": ("seq2seq", {**SEQ2SEQ_SIZES, "src_vocab_size": 99, "tgt_vocab_size": 99, "langs": ["en", "de"]}),
    "led": ("seq2seq", {**SEQ2SEQ_SIZES, "attention_window": 4, "max_encoder_position_embeddings": 64}),
    "longt5": ("seq2seq", {**T5_SIZES, "local_radius": 3}),
    "m2m_100": ("seq2seq", SEQ2SEQ_SIZES),
    "marian": ("seq2seq", SEQ2SEQ_SIZES),
    "mbart": ("seq2seq", SEQ2SEQ_SIZES),
    "mt5": ("seq2seq", T5_SIZES),
    "mvp": ("seq2seq", SEQ2SEQ_SIZES),
    "pegasus": ("seq2seq", SEQ2SEQ_SIZES),
    "plbart": ("seq2seq", SEQ2SEQ_SIZES),
    "prophetnet": (
        "seq2seq",
        {"vocab_size": 99, "hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2}
        | {"num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4, "encoder_ffn_dim": 48}
        | {"decoder_ffn_dim": 48, "max_position_embeddings": 64},
    ),
    "switch_transformers": (
        "seq2seq",
        {**T5_SIZES, "num_experts": 4, "num_sparse_encoder_layers": 1, "router_jitter_noise": 0.0},
    ),
    "t5": ("seq2seq", T5_SIZES),
    "umt5": ("seq2seq", T5_SIZES),
}
SMALL_RESNET = {
    "model_type": "resnet",
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "embedding_size": 8,
    "out_features": ["stage4"],
}
ALL_STAGES = ["stage1", "stage2", "stage3", "stage4"]
VISION: dict[str, tuple[str, dict[str, Any], Inputs]] = {
    "beit": ("image", VISION_SIZES, image),
    "bit": ("image", {**STAGES, "embedding_size": 8, "num_groups": 4}, image),
    "conditional_detr": (
        "detect",
        {
            "use_timm_backbone": False,
            "backbone_config": SMALL_RESNET,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
        }
        | {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 5},
        partial(image, 64),
    ),
    "convnext": ("image", STAGES, image),
    "convnextv2": ("image", STAGES, image),
    "cvt": (
        "image",
        {"embed_dim": [8, 16, 32], "num_heads": [1, 2, 4], "depth": [1, 2, 3]},
        partial(image, 64),
    ),
    "data2vec-vision": ("image", VISION_SIZES, image),
    "deit": ("image", {**VISION_SIZES, "architectures": ["DeiTForImageClassification"]}, image),
    "detr": (
        "detect",
        {
            "use_timm_backbone": False,
            "backbone_config": SMALL_RESNET,
            "d_model": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": 4,
        }
        | {"decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "num_queries": 5},
        partial(image, 64),
    ),
    "dinov2": ("image", VISION_SIZES, image),
    "dinov3_vit": ("", VISION_SIZES, image),
    "dpt": (
        "depth",
        {**VISION_SIZES, "num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]}
        | {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16},
        image,
    ),
    "efficientnet": (
        "image",
        {"width_coefficient": 0.25, "depth_coefficient": 0.25, "hidden_dim": 320},
        partial(image, 128),
    ),
    "focalnet": (
        "image",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1]},
        image,
    ),
    "glpn": (
        "depth",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16}
        | {"num_attention_heads": [1, 2, 2, 4]},
        partial(image, 64),
    ),
    "hiera": (
        "image",
        {
            "image_size": [64, 64],
            "patch_stride": [4, 4],
            "depths": [1, 1, 2, 1],
            "embed_dim": 16,
            "num_heads": [1, 2, 2, 4],
        },
        partial(image, 64),
    ),
    "imagegpt": ("image model", {**GPT_SIZES, "vocab_size": 99}, text),
    "levit": (
        "image",
        {"image_size": 128, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1]}
        | {"architectures": ["LevitForImageClassification"]}
        | {"key_dim": [8, 8, 8]},
        partial(image, 128),
    ),
    "mobilenet_v1": ("image", {"depth_multiplier": 0.25, "image_size": 64}, partial(image, 64)),
    "mobilenet_v2": ("image", {"depth_multiplier": 0.25, "image_size": 64}, partial(image, 64)),
    "mobilevit": (
        "image",
        {"image_size": 64, "hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32]},
        partial(image, 64),
    ),
    "mobilevitv2": ("image", {"image_size": 64, "width_multiplier": 0.25}, partial(image, 64)),
    "poolformer": ("image", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}, partial(image, 64)),
    "pvt": (
        "image",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        partial(image, 64),
    ),
    "pvt_v2": (
        "image",
        {
            "image_size": 64,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 2, 4],
        },
        partial(image, 64),
    ),
    "regnet": (
        "image",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "embedding_size": 8, "groups_width": 8},
        partial(image, 64),
    ),
    "resnet": (
        "image",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "embedding_size": 8},
        partial(image, 64),
    ),
    "segformer": (
        "segment",
        {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "decoder_hidden_size": 16},
        partial(image, 64),
    ),
    "swiftformer": (
        "image",
        {"image_size": 128, "depths": [1, 1, 2, 1], "embed_dims": [8, 16, 24, 32]},
        partial(image, 128),
    ),
    "swin": (
        "image",
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        image,
    ),
    "swin2sr": (
        "pixels",
        {"image_size": 32, "embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": 4},
        image,
    ),
    "swinv2": (
        "image",
        {
            "image_size": 32,
            "patch_size": 2,
            "embed_dim": 16,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
        },
        image,
    ),
    "upernet": (
        "segment",
        {
            "hidden_size": 16,
            "pool_scales": [1, 2],
            "backbone_config": {**SMALL_RESNET, "out_features": ALL_STAGES},
        }
        | {"auxiliary_in_channels": 24, "auxiliary_channels": 16},
        partial(image, 64),
    ),
    "vit": ("image", VISION_SIZES, image),
    "vit_msn": ("image", VISION_SIZES, image),
    "yolos": ("detect", {**VISION_SIZES, "image_size": [32, 32], "num_detection_tokens": 4}, image),
}
AUDIO: dict[str, tuple[str, dict[str, Any], Inputs]] = {
    "audio-spectrogram-transformer": (
        "audio",
        {**VISION_SIZES, "max_length": 40, "num_mel_bins": 24, "frequency_stride": 4, "time_stride": 4},
        partial(spectrogram, 24, 40, "input_values"),
    ),
    "data2vec-audio": ("ctc", {**WAVE_SIZES, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}, wave),
    "hubert": ("ctc", WAVE_SIZES, wave),
    "moonshine": (
        "speech",
        {
            **TEXT_SIZES,
            "encoder_num_hidden_layers": 2,
            "decoder_num_hidden_layers": 2,
            "encoder_num_attention_heads": 4,
            "decoder_num_attention_heads": 4,
            "encoder_num_key_value_heads": 4,
            "decoder_num_key_value_heads": 4,
        },
        lambda: {**wave(), "decoder_input_ids": seq2seq()["decoder_input_ids"]},
    ),
    "sew": ("ctc", {**WAVE_SIZES, "squeeze_factor": 2}, wave),
    "speech_to_text": (
        "speech",
        {
            **SEQ2SEQ_SIZES,
            "input_feat_per_channel": 24,
            "input_channels": 1,
            "conv_channels": 16,
            "max_source_positions": 60,
            "max_target_positions": 60,
        },
        lambda: {
            "input_features": torch.randn(BATCH, 40, 24),
            "decoder_input_ids": seq2seq()["decoder_input_ids"],
        },
    ),
    "unispeech": ("ctc", WAVE_SIZES, wave),
    "wav2vec2": ("ctc", WAVE_SIZES, wave),
    "wav2vec2-conformer": ("ctc", WAVE_SIZES, wave),
    "wavlm": ("ctc", WAVE_SIZES, wave),
    "whisper": (
        "speech",
        {**SEQ2SEQ_SIZES, "num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 20},
        lambda: {**spectrogram(16, 40), "decoder_input_ids": seq2seq()["decoder_input_ids"]},
    ),
}
TWO = {
    "text_config": {**TEXT_SIZES, "projection_dim": 16},
    "vision_config": {**VISION_SIZES, "projection_dim": 16},
    "projection_dim": 16,
}
MIXED: dict[str, tuple[str, dict[str, Any], Inputs]] = {
    "blip": ("", TWO, pair),
    "chinese_clip": ("", TWO, pair),
    "clip": ("", TWO, pair),
    "clipseg": ("", TWO, pair),
    "git": ("lm", {**TEXT_SIZES, "vision_config": VISION_SIZES}, pair),
    "layoutlmv3": (
        "classes",
        {**TEXT_SIZES, "visual_embed": False, "coordinate_size": 4, "shape_size": 8},
        text,
    ),
    "owlvit": ("", TWO, pair),
    "siglip": ("", TWO, pair),
    "vilt": ("", {**TEXT_SIZES, **VISION_SIZES}, pair),
    "patchtst": (
        "patches",
        {
            "num_input_channels": 2,
            "context_length": 32,
            "patch_length": 8,
            "patch_stride": 8,
            "prediction_length": 8,
            "d_model": 16,
            "num_hidden_layers": 2,
            "ffn_dim": 32,
            "num_attention_heads": 4,
        },
        lambda: {"past_values": torch.randn(BATCH, 32, 2)},
    ),
    "patchtsmixer": (
        "mixed patches",
        {
            "num_input_channels": 2,
            "context_length": 32,
            "patch_length": 8,
            "patch_stride": 8,
            "prediction_length": 8,
            "d_model": 16,
            "num_layers": 2,
        },
        lambda: {"past_values": torch.randn(BATCH, 32, 2)},
    ),
    "videomae": (
        "video",
        {**VISION_SIZES, "num_frames": 4},
        lambda: {"pixel_values": torch.randn(BATCH, 4, 3, IMAGE, IMAGE)},
    ),
    "timesformer": (
        "video",
        {**VISION_SIZES, "num_frames": 2},
        lambda: {"pixel_values": torch.randn(BATCH, 2, 3, IMAGE, IMAGE)},
    ),
}


def transformers(kind: str, task: str, sizes: Mapping[str, Any], inputs: Inputs) -> Example:
    """The architecture ``kind`` of transformers with a head, called with tensors alone."""
    import transformers

    config = transformers.AutoConfig.for_model(kind, **sizes)
    no_cache(config)
    config._experts_implementation = "batched_mm"  # the default, a product of groups, knows no float64
    of_task = getattr(transformers, TASKS[task])
    model = of_task.from_config(config) if TASKS[task].startswith("Auto") else of_task(config)
    takes = inspect.signature(model.forward).parameters
    return Example(
        model.eval(), {name: x for name, x in inputs().items() if name in takes}
    )  # not all take a mask


def no_cache(config: Any) -> None:
    """Keys and values are not kept for generating on."""
    for name in ("text_config", "vision_config", "encoder", "decoder"):
        if hasattr(getattr(config, name, None), "to_dict"):
            no_cache(getattr(config, name))
    if getattr(config, "use_cache", None):
        config.use_cache = False


def listed() -> list[Listed]:
    """Every model of the lists."""
    found = [
        Listed("timm", family, name, partial(timm, name, size, **changes))
        for family, (name, size, changes) in TIMM.items()
    ]
    entries = [("text", kind, *e, text) for kind, e in TEXT.items()]
    entries += [("text to text", kind, *e, seq2seq) for kind, e in SEQ2SEQ.items()]
    for family, group in (("vision", VISION), ("audio", AUDIO), ("mixed", MIXED)):
        entries += [(family, kind, *e) for kind, e in group.items()]
    for family, kind, task, sizes, inputs in entries:
        found.append(Listed("transformers", family, kind, partial(transformers, kind, task, sizes, inputs)))
    return found
