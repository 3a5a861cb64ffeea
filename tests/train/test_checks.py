from __future__ import annotations

from dataclasses import replace

import pytest

from jaxchat.errors import InputError
from jaxchat.mesh import MeshConfig, resolve
from jaxchat.models.presets import smollm2_135m, tiny
from jaxchat.sharding import Rules
from jaxchat.train.checks import check_batch, check_length, check_model, check_seq_len, check_vocabulary


def _sizes(**axes: int) -> dict[str, int]:
    return resolve(MeshConfig(**axes), 64)


@pytest.mark.parametrize(
    "steps, epochs, sentence",
    [
        (None, None, "the run has no length; set --steps or --epochs"),
        (10, 2.0, "the length is given twice, as 10 steps and as 2 epochs; set one to None"),
        (0, None, "steps is 0; set --steps to 1 or more"),
        (None, -1.0, "epochs is -1; set --epochs above 0"),
        (None, float("nan"), "epochs is nan; set --epochs above 0"),
    ],
)
def test_a_length_is_given_once(steps: int | None, epochs: float | None, sentence: str):
    with pytest.raises(InputError) as refused:
        check_length(steps, epochs)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "batch, accumulate, mesh, sentence",
    [
        (63, 1, {"data": 8}, "batch 63 does not divide over data=8; set --data.batch 64"),
        (6, 1, {"data": 2, "fsdp": 2}, "batch 6 does not divide over data=2 x fsdp=2; set --data.batch 8"),
        (8, 3, {}, "batch 8 does not divide in accumulate=3 parts; set --data.batch 9"),
        (8, 2, {"data": 8}, "batch 8 does not divide over data=8 in accumulate=2 parts; set --data.batch 16"),
        (8, 0, {}, "accumulate is 0; set --accumulate to 1 or more"),
    ],
)
def test_a_batch_divides_over_mesh_and_micro_batches(batch: int, accumulate: int, mesh: dict, sentence: str):
    with pytest.raises(InputError) as refused:
        check_batch(batch, 256, accumulate, _sizes(**mesh), Rules())
    assert str(refused.value) == sentence


def test_what_a_sentence_says_to_set_is_accepted():
    check_length(10, None)
    check_length(None, 0.5)
    check_batch(64, 256, 1, _sizes(data=8), Rules())
    check_batch(16, 256, 2, _sizes(data=8), Rules())
    check_batch(9, 256, 3, _sizes(), Rules())
    check_model(smollm2_135m(), _sizes(tensor=3, fsdp=4), Rules())
    check_vocabulary(256, tiny(), from_scratch=True)
    check_seq_len(256, tiny())


def test_rows_divide_over_the_context_axis():
    with pytest.raises(InputError, match=r"rows of 255 tokens do not divide over context=2; set --data.seq-len 256"):
        check_batch(8, 255, 1, _sizes(context=2), Rules())


def test_heads_divide_over_tensor():
    with pytest.raises(InputError, match=r"the model's heads 9 does not divide over tensor=2; set --mesh.tensor to 1"):
        check_model(smollm2_135m(), _sizes(tensor=2), Rules())
    with pytest.raises(InputError, match=r"kv_heads 2 does not divide over tensor=4; set --mesh.tensor to 2"):
        check_model(tiny(), _sizes(tensor=4), Rules())


def test_a_tokenizer_fits_the_model():
    with pytest.raises(InputError, match=r"vocabulary of 300 exceeds the model's of 256; set --model.vocab-size 300"):
        check_vocabulary(300, tiny(), from_scratch=True)
    with pytest.raises(InputError, match="the model's own tokenizer"):
        check_vocabulary(300, tiny(), from_scratch=False)


def test_rows_fit_the_context():
    with pytest.raises(InputError, match=r"rows of 512 .* context of 64; set --data.seq-len 64"):
        check_seq_len(512, replace(tiny(), context_length=64))
