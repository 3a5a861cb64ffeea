"""The shape of a decoder: everything that a checkpoint's arrays depend on, and nothing that a run may choose."""

from __future__ import annotations

from dataclasses import dataclass

from jaxchat.errors import InputError


@dataclass(frozen=True)
class DecoderConfig:
    """A Llama-shaped decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

    vocab_size: rows of the embedding. layers: blocks. width: of the residual stream. heads, kv_heads: queries and the
    keys and values they share. head_size: of one head. hidden: of the MLP. tied: the unembedding is the embedding.
    context_length: positions the model was made for.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    tied: bool = True
    context_length: int = 2048

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_size", "hidden", "context_length"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.heads % self.kv_heads:
            raise InputError(
                f"model.heads {self.heads} is not a multiple of model.kv_heads {self.kv_heads}; "
                "every key-value head serves the same number of query heads"
            )
        if self.head_size % 2:
            raise InputError(f"model.head_size {self.head_size} is odd; rotary positions turn pairs, so make it even")

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        attention = self.width * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        block = attention + 3 * self.width * self.hidden + 2 * self.width
        return self.layers * block + self.width + self.vocab_size * self.width * (1 if self.tied else 2)

    def flops_per_token(self, context: float) -> float:
        """Floating-point operations of a forward and a backward pass for one token that attends to `context` others.

        Counted as is usual for model FLOP utilisation (Chowdhery et al. 2022, PaLM, appendix B): 2 for a multiply and
        an add, backward twice forward, recomputation not counted, the embedding's lookup free.
        """
        attention = self.width * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        matrices = self.layers * (attention + 3 * self.width * self.hidden) + self.vocab_size * self.width
        scores = 2 * self.layers * self.heads * self.head_size * context
        return 6.0 * (matrices + scores)
