"""Each method keeps exactly the tokens that its definition keeps, and what is drawn has their probabilities."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.errors import InputError
from jaxchat.sample.methods import History, Sampling, adjust, allow, choose, methods, truncate

V = 40
LOGITS = np.random.default_rng(0).normal(scale=2.0, size=(1, V)).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x[np.isfinite(x)].max())
    return e / e.sum()


def by_definition(logits_V: np.ndarray, s: Sampling) -> np.ndarray:
    """The distribution that a sampling draws from, one step of its definition after the other."""
    x = logits_V.astype(np.float64) / s.temperature
    if s.top_k:
        x = np.where(np.argsort(np.argsort(-x)) < s.top_k, x, -np.inf)
    p = softmax(x)
    order = np.argsort(-p)
    kept = order[: np.searchsorted(np.cumsum(p[order]), s.top_p) + 1] if s.top_p < 1 else order
    x = np.where(np.isin(np.arange(len(x)), kept), x, -np.inf)
    p = softmax(x)
    return softmax(np.where(p >= s.min_p * p.max(), x, -np.inf))


SAMPLINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.5),
    Sampling(temperature=1.3, top_k=5),
    Sampling(temperature=1.0, top_p=0.8),
    Sampling(temperature=1.0, min_p=0.1),
    Sampling(temperature=1.7, top_k=20, top_p=0.9, min_p=0.05),
    Sampling(temperature=1.0, top_p=1e-6),
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_tokens_kept_are_those_of_the_definition(sampling):
    kept = np.asarray(truncate(jnp.asarray(LOGITS / sampling.temperature), methods([sampling])))[0]
    np.testing.assert_allclose(softmax(kept), by_definition(LOGITS[0], sampling), atol=1e-6)


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_draws_have_the_probabilities_of_the_definition(sampling):
    draws = 20_000
    one = jax.jit(lambda index: choose(jnp.asarray(LOGITS), index[None], methods([sampling]))[0])
    tokens = np.asarray(jax.lax.map(one, jnp.arange(draws), batch_size=1000))
    expected = by_definition(LOGITS[0], sampling) * draws
    counts = np.bincount(tokens, minlength=V)
    assert not counts[expected == 0].any()
    large = expected >= 5
    chi_square = float((((counts - expected) ** 2)[large] / expected[large]).sum())
    freedom = max(int(large.sum()) - 1, 1)
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom) + 1  # four standard deviations: the seed is fixed


def test_rows_with_different_settings_do_not_disturb_each_other():
    rows = [Sampling(temperature=0.0), *SAMPLINGS]
    logits = np.repeat(LOGITS, len(rows), 0)
    index = np.arange(len(rows))
    together = choose(jnp.asarray(logits), index, methods(rows))
    for row, sampling in enumerate(rows):
        alone = choose(jnp.asarray(LOGITS), index[row : row + 1], methods([sampling]))
        assert alone[0] == together[row]
    assert together[0] == LOGITS[0].argmax()


def test_the_repetition_penalty_is_that_of_transformers():
    torch = pytest.importorskip("torch")
    from transformers import RepetitionPenaltyLogitsProcessor

    rng = np.random.default_rng(1)
    for penalty in (1.2, 5.0, 0.5):
        logits = rng.normal(size=(1, V)).astype(np.float32)
        seen = rng.random((1, V)) < 0.5
        theirs = RepetitionPenaltyLogitsProcessor(penalty)(
            torch.tensor(np.flatnonzero(seen[0])[None]), torch.tensor(logits)
        )
        history = History(seen, np.zeros((1, V), np.int32), np.zeros((1, V), np.float32))
        ours = adjust(jnp.asarray(logits), history, methods([Sampling(repetition_penalty=penalty)]))
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_penalties_and_biases_are_openais():
    """Logit plus bias, minus count times frequency, minus presence; only the answer counts."""
    rng = np.random.default_rng(2)
    said, asked = rng.integers(0, 3, (1, V)), rng.random((1, V)) < 0.5
    bias = rng.normal(size=(1, V)).astype(np.float32)
    sampling = Sampling(presence_penalty=0.7, frequency_penalty=-0.3)
    ours = adjust(jnp.asarray(LOGITS), History(asked, said, bias), methods([sampling]))
    np.testing.assert_allclose(ours, LOGITS + bias + 0.3 * said - 0.7 * (said > 0), rtol=1e-5)


def test_only_what_a_mask_allows_can_be_chosen():
    allowed = np.random.default_rng(3).random((1, V)) < 0.5
    bits = np.zeros((1, 32 * -(-V // 32)), bool)
    bits[:, :V] = allowed
    words = np.packbits(bits, axis=1, bitorder="little").view("<i4")
    np.testing.assert_array_equal(np.isfinite(allow(jnp.asarray(LOGITS), words)), allowed)


@pytest.mark.parametrize(
    ("field", "value"),
    [("temperature", -1.0), ("top_k", -1), ("top_p", 0.0), ("top_p", 1.1), ("min_p", 2.0), ("max_tokens", 0),
     ("repetition_penalty", 0.0), ("presence_penalty", float("nan")), ("logit_bias", ((-1, 0.0),)), ("stop", ("",)),
     ("seed", -1)],
)  # fmt: skip
def test_settings_that_mean_nothing_are_refused(field, value):
    with pytest.raises(InputError, match="--" + field.replace("_", "-")):
        replace(Sampling(), **{field: value})
