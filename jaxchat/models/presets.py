"""Decoders with a name. A config file takes one and changes it with `dataclasses.replace`."""

from __future__ import annotations

from jaxchat.models.config import DecoderConfig, Kind, Rotary


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
