"""Decoders with a name. A config file takes one and changes it with `dataclasses.replace`."""

from __future__ import annotations

from jaxchat.models.config import DecoderConfig, Gated, Kind, LayerNorm, Llama3, Mixture, Plain, RMSNorm, Rotary


def tiny() -> DecoderConfig:
    """For tests: every feature, no size."""
    return DecoderConfig(
        vocab_size=256, layers=2, width=32, heads=4, kv_heads=2, head_size=8, hidden=64, context_length=256
    )


def nano() -> DecoderConfig:
    """About 10 million parameters: learns to chat a little on a laptop within the hour."""
    return DecoderConfig(
        vocab_size=8192, layers=8, width=288, heads=6, kv_heads=6, head_size=48, hidden=768, context_length=1024
    )


def smollm2_135m() -> DecoderConfig:
    """SmolLM2-135M (Ben Allal et al. 2025)."""
    return DecoderConfig(
        vocab_size=49152,
        layers=30,
        width=576,
        heads=9,
        kv_heads=3,
        head_size=64,
        hidden=1536,
        kinds=(Kind(rotary=Rotary(100_000.0)),),
        context_length=8192,
    )


def llama3_8b() -> DecoderConfig:
    """Llama 3 8B (Grattafiori et al. 2024)."""
    return DecoderConfig(
        vocab_size=128_256,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        head_size=128,
        hidden=14_336,
        kinds=(Kind(rotary=Rotary(500_000.0)),),
        tied=False,
        context_length=8192,
    )


def llama3_2_1b() -> DecoderConfig:
    """Llama 3.2 1B (Grattafiori et al. 2024)."""
    return DecoderConfig(
        vocab_size=128_256,
        layers=16,
        width=2048,
        heads=32,
        kv_heads=8,
        head_size=64,
        hidden=8192,
        kinds=(Kind(rotary=Rotary(500_000.0, Llama3(factor=32.0, low=1.0, high=4.0, original=8192))),),
        context_length=131_072,
        family="llama",
    )


def tinyllama_1_1b() -> DecoderConfig:
    """TinyLlama 1.1B (Zhang et al. 2024)."""
    return DecoderConfig(
        vocab_size=32_000,
        layers=22,
        width=2048,
        heads=32,
        kv_heads=4,
        head_size=64,
        hidden=5632,
        tied=False,
        family="llama",
    )


def smollm3_3b() -> DecoderConfig:
    """SmolLM3 3B (Bakouch et al. 2025)."""
    turned = Kind(rotary=Rotary(5_000_000.0))
    return DecoderConfig(
        vocab_size=128_256,
        layers=36,
        width=2048,
        heads=16,
        kv_heads=4,
        head_size=128,
        hidden=11_008,
        kinds=(turned, turned, turned, Kind(rotary=None)),
        norm=RMSNorm(1e-6),
        context_length=65_536,
        family="smollm3",
    )


def mistral_7b() -> DecoderConfig:
    """Mistral 7B, the first version, which has a window (Jiang et al. 2023)."""
    return DecoderConfig(
        vocab_size=32_000,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        head_size=128,
        hidden=14_336,
        tied=False,
        kinds=(Kind(4096),),
        context_length=32_768,
        family="mistral",
    )


def mixtral_8x7b() -> DecoderConfig:
    """Mixtral 8x7B (Jiang et al. 2024)."""
    return DecoderConfig(
        vocab_size=32_000,
        layers=32,
        width=4096,
        heads=32,
        kv_heads=8,
        head_size=128,
        hidden=14_336,
        tied=False,
        kinds=(Kind(rotary=Rotary(1_000_000.0)),),
        mlp=Mixture(experts=8, chosen=2),
        context_length=32_768,
        family="mixtral",
    )


def qwen2_5_0_5b() -> DecoderConfig:
    """Qwen 2.5 0.5B (Yang et al. 2024)."""
    return DecoderConfig(
        vocab_size=151_936,
        layers=24,
        width=896,
        heads=14,
        kv_heads=2,
        head_size=64,
        hidden=4864,
        kinds=(Kind(rotary=Rotary(1_000_000.0)),),
        norm=RMSNorm(1e-6),
        qkv_bias=True,
        context_length=32_768,
        family="qwen2",
    )


def qwen3_0_6b() -> DecoderConfig:
    """Qwen 3 0.6B (Yang et al. 2025)."""
    return DecoderConfig(
        vocab_size=151_936,
        layers=28,
        width=1024,
        heads=16,
        kv_heads=8,
        head_size=128,
        hidden=3072,
        kinds=(Kind(rotary=Rotary(1_000_000.0)),),
        norm=RMSNorm(1e-6),
        qk_norm=True,
        context_length=40_960,
        family="qwen3",
    )


def qwen3_30b_a3b() -> DecoderConfig:
    """Qwen 3 30B of which a token uses 3 (Yang et al. 2025)."""
    return DecoderConfig(
        vocab_size=151_936,
        layers=48,
        width=2048,
        heads=32,
        kv_heads=4,
        head_size=128,
        hidden=768,
        tied=False,
        kinds=(Kind(rotary=Rotary(1_000_000.0)),),
        norm=RMSNorm(1e-6),
        qk_norm=True,
        mlp=Mixture(experts=128, chosen=8),
        context_length=40_960,
        family="qwen3_moe",
    )


def gemma2_2b() -> DecoderConfig:
    """Gemma 2 2B (Gemma Team 2024)."""
    return DecoderConfig(
        vocab_size=256_000,
        layers=26,
        width=2304,
        heads=8,
        kv_heads=4,
        head_size=256,
        hidden=9216,
        kinds=(Kind(4096), Kind()),
        norm=RMSNorm(1e-6, offset=1.0),
        post_norms=True,
        mlp=Gated("gelu_tanh"),
        score_cap=50.0,
        logit_cap=30.0,
        embed_scale=2304**0.5,
        context_length=8192,
        family="gemma2",
    )


def gemma3_1b() -> DecoderConfig:
    """Gemma 3 1B (Gemma Team 2025)."""
    return DecoderConfig(
        vocab_size=262_144,
        layers=26,
        width=1152,
        heads=4,
        kv_heads=1,
        head_size=256,
        hidden=6912,
        kinds=(*(Kind(512),) * 5, Kind(rotary=Rotary(1_000_000.0))),
        norm=RMSNorm(1e-6, offset=1.0),
        post_norms=True,
        qk_norm=True,
        mlp=Gated("gelu_tanh"),
        embed_scale=1152**0.5,
        context_length=32_768,
        family="gemma3",
    )


def phi3_mini() -> DecoderConfig:
    """Phi-3 mini for 4,096 tokens (Abdin et al. 2024)."""
    return DecoderConfig(
        vocab_size=32_064,
        layers=32,
        width=3072,
        heads=32,
        kv_heads=32,
        head_size=96,
        hidden=8192,
        tied=False,
        kinds=(Kind(2047),),
        context_length=4096,
        family="phi3",
    )


def gpt2() -> DecoderConfig:
    """GPT-2, the smallest (Radford et al. 2019)."""
    return DecoderConfig(
        vocab_size=50_257,
        layers=12,
        width=768,
        heads=12,
        kv_heads=12,
        head_size=64,
        hidden=3072,
        kinds=(Kind(rotary=None),),
        norm=LayerNorm(),
        mlp=Plain(),
        qkv_bias=True,
        out_bias=True,
        learned_positions=True,
        context_length=1024,
        family="gpt2",
    )
