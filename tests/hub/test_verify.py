"""`hf verify`: two models that are one, two that are not, and what is no pair."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxchat.__main__ import main
from jaxchat.errors import InputError
from jaxchat.hub.export import export
from jaxchat.hub.verify import table, verify
from jaxchat.models.config import DecoderConfig


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> Path:
    return write_huggingface(tmp_path_factory.mktemp("models") / "first", tiny, params_of(tiny))


def test_a_model_is_itself_in_another_form(tmp_path: Path, folder: Path) -> None:
    export(str(folder), tmp_path / "same.gguf")
    found = verify(str(folder), str(tmp_path / "same.gguf"))
    assert found.same and found.logits.max_logit_difference == 0 and found.other == ()
    assert all(each.equal == each.size and each.max_difference == 0 for each in found.tensors)
    assert f"{len(found.tensors)} of {len(found.tensors)} tensors are equal bit for bit" in table(found)


def test_the_largest_difference_comes_first(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, folder: Path
) -> None:
    params = params_of(tiny)
    params["layers"]["mlp"]["down"][1, 2, 3] += 0.5
    params["norm"]["scale"][7] += 0.25
    other = write_huggingface(tmp_path / "other", tiny, params)
    found = verify(str(folder), str(other))
    assert not found.same
    assert {each.name for each in found.tensors[:2]} == {"layers.mlp.down", "norm.scale"}
    moved = {each.name: each for each in found.tensors}["layers.mlp.down"]
    assert moved.max_difference == pytest.approx(0.5) and moved.equal == moved.size - 1
    assert all(each.equal == each.size for each in found.tensors[2:])
    assert table(found)[1].split()[0] in ("layers.mlp.down", "norm.scale")


def test_weights_that_are_no_numbers_are_not_the_same(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, folder: Path
) -> None:
    params = params_of(tiny)
    params["layers"]["attn"]["v"][0, 0, 0, 0] = np.nan
    found = verify(str(folder), str(write_huggingface(tmp_path / "broken", tiny, params)))
    assert not found.same and found.tensors[0].name == "layers.attn.v"


def test_what_else_differs_is_said(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, folder: Path
) -> None:
    longer = write_huggingface(tmp_path / "longer", replace(tiny, context_length=512), params_of(tiny))
    (longer / "chat_template.jinja").write_text("{{ messages[0].content }}<|im_end|>")
    found = verify(str(folder), str(longer))
    assert found.other == ("context_length: 256 and 512", "the chat templates are not the same")


def test_models_of_other_shapes_are_no_pair(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, folder: Path
) -> None:
    wide, untied = replace(tiny, hidden=96), replace(tiny, tied=False)
    other = write_huggingface(tmp_path / "wide", wide, params_of(wide))
    with pytest.raises(InputError, match=r"layers\.mlp\.down has the shape \(2, 64, 32\) in .* and \(2, 96, 32\)"):
        verify(str(folder), str(other))
    other = write_huggingface(tmp_path / "untied", untied, params_of(untied))
    with pytest.raises(InputError, match=r"first has no unembed\.kernel, which .*untied has"):
        verify(str(folder), str(other))


def test_the_command_line_says_so_and_exits_2(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert main(["hf", "verify", str(folder), str(folder), "--json", str(tmp_path / "same.json")]) == 0
    assert "are the same model" in capsys.readouterr().out
    assert json.loads((tmp_path / "same.json").read_text())["same"] is True
    other = write_huggingface(tmp_path / "other", tiny, params_of(tiny, 1))
    assert main(["hf", "verify", str(folder), str(other), "--json", str(tmp_path / "other.json")]) == 2
    said = capsys.readouterr().out
    assert "are not the same model: logits differ by at most" in said and "layers.attn.q" in said
    found = json.loads((tmp_path / "other.json").read_text())
    assert found["same"] is False and found["logits"]["max_logit_difference"] > 1e-4 == found["bound"]
    assert {"name", "max_difference", "relative", "equal", "size"} <= set(found["tensors"][0])
    assert main(["hf", "verify", str(folder), str(other), "--bound", "1e9"]) == 0
