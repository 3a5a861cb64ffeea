"""The shape of a decoder: everything that what it computes depends on, and nothing that a run may choose.

A decoder is described by typed parts. Where families differ in kind (of norm, of MLP, of rotary scaling) a field is a
union of small dataclasses, and the code that computes a part reads that part alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from jaxchat.errors import InputError

Activation = Literal["silu", "gelu_tanh"]


@dataclass(frozen=True)
class RMSNorm:
    """Root-mean-square normalisation (Zhang & Sennrich 2019), times `offset` + a learned scale: Gemma's offset is 1."""

    eps: float = 1e-5
    offset: float = 0.0


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation (Ba et al. 2016) with a scale and a bias."""

    eps: float = 1e-5


@dataclass(frozen=True)
class Stretched:
    """Every position divided by `factor` (Chen et al. 2023, position interpolation)."""

    factor: float


@dataclass(frozen=True)
class Llama3:
    """Llama 3.1's: slow pairs are stretched, those that turn over often in `original` positions stay as they are."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True)
class Yarn:
    """Peng et al. 2023: a ramp from stretched to untouched pairs, by how often each turns over in `original` positions.

    attention: what the turned vectors are multiplied by. whole: the ramp's ends are rounded to whole pairs.
    """

    factor: float
    original: int
    attention: float = 1.0
    fast: float = 32.0
    slow: float = 1.0
    whole: bool = True


@dataclass(frozen=True)
class LongRope:
    """Ding et al. 2024: every pair divided by its own factor, of `long` where positions reach over `original`, else of
    `short`. attention: what the turned vectors are multiplied by."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original: int
    attention: float = 1.0


@dataclass(frozen=True)
class Rotary:
    """Rotary positions (Su et al. 2021). fraction: how much of each head is turned, from its beginning."""

    theta: float = 10_000.0
    scaling: Stretched | Llama3 | Yarn | LongRope | None = None
    fraction: float = 1.0


@dataclass(frozen=True)
class Kind:
    """A kind of layer. window: a token attends to itself and the `window - 1` tokens before it; None: to all before it.
    rotary: None where its attention knows no positions."""

    window: int | None = None
    rotary: Rotary | None = Rotary()


@dataclass(frozen=True)
class Gated:
    """down(activation(gate x) * up x): SwiGLU and GeGLU (Shazeer 2020)."""

    activation: Activation = "silu"
    bias: bool = False


@dataclass(frozen=True)
class Plain:
    """down(activation(up x)), with biases."""

    activation: Activation = "gelu_tanh"


@dataclass(frozen=True)
class Mixture:
    """A mixture of experts (Shazeer et al. 2017): every token's MLP is the weighted sum of `chosen` of `experts` gated
    ones, those that a router finds likeliest; `hidden` is then each one's. normed: the weights, the router's
    probabilities, are divided by their sum."""

    experts: int
    chosen: int
    normed: bool = True
    activation: Activation = "silu"


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder with grouped-query attention; without more said, Llama's shape.

    vocab_size: rows of the embedding. layers: blocks. width: of the residual stream. heads, kv_heads: queries and the
    keys and values they share. head_size: of one head. hidden: of the MLP. tied: the unembedding is the embedding.
    context_length: positions the model was made for.

    kinds: of the layers, in turn, repeated. norm: of every normalisation. post_norms: attention and MLP are normed
    again before they join the residual stream. qk_norm: queries and keys are normed head by head. mlp: its form.
    qkv_bias, out_bias: what attention's projections add. query_scale: of the products of queries and keys; None:
    head_size ** -0.5. score_cap, logit_cap (c): scores of attention, logits x become c tanh(x / c). embed_scale: of
    the embedding as blocks read it. learned_positions: an embedding of every position is added to it. family: whose
    format to export in where several describe the same decoder; nothing that is computed depends on it.
    """

    vocab_size: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    hidden: int
    tied: bool = True
    context_length: int = 2048
    kinds: tuple[Kind, ...] = (Kind(),)
    norm: RMSNorm | LayerNorm = RMSNorm()
    post_norms: bool = False
    qk_norm: bool = False
    mlp: Gated | Plain | Mixture = Gated()
    qkv_bias: bool = False
    out_bias: bool = False
    query_scale: float | None = None
    score_cap: float | None = None
    logit_cap: float | None = None
    embed_scale: float = 1.0
    learned_positions: bool = False
    family: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name in ("vocab_size", "layers", "width", "heads", "kv_heads", "head_size", "hidden", "context_length"):
            if getattr(self, name) < 1:
                raise InputError(f"model.{name} is {getattr(self, name)}; it must be at least 1")
        if self.heads % self.kv_heads:
            raise InputError(
                f"model.heads {self.heads} is not a multiple of model.kv_heads {self.kv_heads}; "
                "every key-value head serves the same number of query heads"
            )
        if not 1 <= len(self.kinds) <= self.layers:
            raise InputError(f"model.kinds has {len(self.kinds)} kinds for {self.layers} layers; give 1 to as many")
        for kind in self.kinds:
            self._check(kind)
        if isinstance(self.mlp, Mixture) and not 1 <= self.mlp.chosen <= self.mlp.experts:
            raise InputError(
                f"model.mlp.chosen is {self.mlp.chosen}; of {self.mlp.experts} experts a token takes 1 to as many"
            )

    def _check(self, kind: Kind) -> None:
        if kind.window is not None and kind.window < 1:
            raise InputError(f"a window of model.kinds is {kind.window}; a token sees at least itself")
        if kind.rotary is None:
            return
        turned = self.turned(kind.rotary)
        if turned % 2 or not 0 < turned <= self.head_size:
            what = f"head_size {self.head_size}"
            if kind.rotary.fraction != 1:
                what = f"rotary fraction {kind.rotary.fraction} of {what}"
            raise InputError(f"model.{what} is odd; rotary positions turn pairs, so make it even")
        scaling = kind.rotary.scaling
        if isinstance(scaling, LongRope) and {len(scaling.short), len(scaling.long)} != {turned // 2}:
            raise InputError(
                f"model.kinds: {len(scaling.short)} short and {len(scaling.long)} long factors of rotary positions; "
                f"{turned} turned dimensions of a head need {turned // 2} of each"
            )

    def kind(self, layer: int) -> Kind:
        """Of the layer with this number."""
        return self.kinds[layer % len(self.kinds)]

    def turned(self, rotary: Rotary) -> int:
        """How many dimensions of a head are turned by its position."""
        return int(self.head_size * rotary.fraction)

    def _matrices(self, *, used: bool) -> int:
        """Parameters of a block's matrix products; `used`: those that one token is multiplied by."""
        attention = self.width * self.head_size * (2 * self.heads + 2 * self.kv_heads)
        mlp = self.width * self.hidden * (2 if isinstance(self.mlp, Plain) else 3)
        if isinstance(self.mlp, Mixture):
            mlp = mlp * (self.mlp.chosen if used else self.mlp.experts) + self.width * self.mlp.experts
        return attention + mlp

    @property
    def parameters(self) -> int:
        """Number of parameters, tied ones once."""
        D, H, F = self.width, self.head_size, self.hidden
        norm = D * (2 if isinstance(self.norm, LayerNorm) else 1)
        block = self._matrices(used=False) + norm * (4 if self.post_norms else 2)
        block += norm // D * 2 * H * self.qk_norm
        block += H * (self.heads + 2 * self.kv_heads) * self.qkv_bias + D * self.out_bias
        block += F + D if isinstance(self.mlp, Plain) else 0
        block += 2 * F + D if isinstance(self.mlp, Gated) and self.mlp.bias else 0
        around = norm + self.vocab_size * D * (1 if self.tied else 2) + self.context_length * D * self.learned_positions
        return self.layers * block + around

    def flops_per_token(self, context: float, frozen: bool = False) -> float:
        """Floating-point operations of a forward and a backward pass for one token that attends to `context` others.

        Counted as is usual for model FLOP utilisation (Chowdhery et al. 2022, PaLM, appendix B): 2 for a multiply and
        an add, backward twice forward, recomputation not counted, the embedding's lookup free; of experts, those that a
        token takes. frozen: the weights' gradients are not made, and what an adapter takes is not counted.
        """
        matrices = self.layers * self._matrices(used=True) + self.vocab_size * self.width
        windows = (self.kind(layer).window for layer in range(self.layers))
        seen = sum(context if window is None else min(context, window) for window in windows)
        return (4.0 if frozen else 6.0) * matrices + 12.0 * self.heads * self.head_size * seen


def shortest(kinds: tuple[Kind, ...]) -> tuple[Kind, ...]:
    """The fewest kinds that, repeated, say the same for every layer: what `DecoderConfig.kinds` is to hold."""
    count = next(n for n in range(1, len(kinds) + 1) if all(kinds[i] == kinds[i % n] for i in range(len(kinds))))
    return kinds[:count]
