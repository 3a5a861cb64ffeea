"""Who answers with a model does so on as many devices as are asked for, and in half the memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from jaxchat.__main__ import main

ASKED = ("--prompt", "Hello there", "--prompt", "a", "--max-tokens", "8", "--temperature", "0")


def answers(folder: Path, out: Path, *options: str) -> list[dict]:
    assert main(["generate", str(folder), *ASKED, *options, "--json", str(out)]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("options", [("--mesh.tensor", "2"), ("--mesh.fsdp", "2", "--mesh.data", "-1")], ids=" ".join)
def test_the_answers_of_several_devices_are_those_of_one(
    model_folder: Callable[..., Path], tmp_path: Path, options: tuple[str, ...]
):
    one, several = (answers(model_folder("m"), tmp_path / "one"), answers(tmp_path / "m", tmp_path / "other", *options))
    assert [row["token_ids"] for row in several] == [row["token_ids"] for row in one]
    for row, same in zip(several, one, strict=True):
        assert row["logprobs"] == pytest.approx(same["logprobs"], abs=1e-4)


def test_half_precision_is_near_the_whole(model_folder: Callable[..., Path], tmp_path: Path):
    one = answers(model_folder("m"), tmp_path / "one")
    half = answers(tmp_path / "m", tmp_path / "half", "--compute", "bfloat16")
    assert half != one and half[0]["logprobs"][0] == pytest.approx(one[0]["logprobs"][0], abs=0.1)


@pytest.mark.parametrize(
    ("options", "why"), [(("--mesh.tensor", "3"), "--mesh.tensor to 1"), (("--mesh.data", "9"), "9 devices and 8")]
)
def test_devices_that_do_not_fit_the_model_are_refused(
    model_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], options: tuple[str, ...], why: str
):
    assert main(["generate", str(model_folder("m")), *ASKED, *options]) == 2
    assert why in capsys.readouterr().err
