"""GGUF out: what is written is the same model again, in every precision, with all that travels along."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import jax
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from jaxchat.chat.gguf_metadata import read_gguf_header, read_gguf_metadata
from jaxchat.errors import InputError
from jaxchat.hub import gguf_writing, weights
from jaxchat.hub.export import export
from jaxchat.hub.families import by_config
from jaxchat.hub.gguf import Gguf
from jaxchat.hub.layout import Tensor
from jaxchat.hub.open import open_model
from jaxchat.mesh import MeshConfig, make_mesh
from jaxchat.models.config import DecoderConfig
from jaxchat.models.decoder import Model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: DecoderConfig, write_run: Any) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "little", tiny, {10: 2.0})


def same(a: Any, b: Any) -> bool:
    return all(jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(np.asarray(x), np.asarray(y)), a, b)))


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_out_and_in_again_bit_for_bit(tmp_path: Path, tiny: DecoderConfig, write_run: Any, tied: bool) -> None:
    run = write_run(tmp_path / "run", replace(tiny, tied=tied), {5: 1.0})
    made = export(str(run), tmp_path / "out.gguf")
    assert made.verification["max_logit_difference"] == 0
    assert json.loads((tmp_path / "out.verification.json").read_text()) == made.verification
    before, after = open_model(str(run)), open_model(str(tmp_path / "out.gguf"))
    assert after.config == before.config and same(before.params, after.params)
    export(str(tmp_path / "out.gguf"), tmp_path / "folder")
    export(str(tmp_path / "folder"), tmp_path / "again.gguf", dtype="float32")
    first, second = (Gguf(tmp_path / name) for name in ("out.gguf", "again.gguf"))
    for name in first.shapes():
        assert np.array_equal(first.read(name, ()), second.read(name, ()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "q8_0"])
def test_each_precision_is_proven_against_its_own_rounding(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any, dtype: str
) -> None:
    params = jax.tree.map(lambda x: x * np.float32(1.001), params_of(tiny))
    source = write_huggingface(tmp_path / "source", tiny, params)
    made = export(str(source), tmp_path / "out.gguf", dtype=dtype).verification
    assert made["max_logit_difference"] <= 1e-5 < made["max_logit_difference_by_rounding"]
    assert abs(made["perplexity_after_rounding"] / made["perplexity"] - 1) < 0.05
    metadata, tensors = read_gguf_header(tmp_path / "out.gguf")
    kinds = {name: Kind(tensor.kind).name for name, tensor in tensors.items()}
    wanted = gguf_writing.KINDS[dtype][0]
    assert {kinds[name] for name in kinds if name.endswith("norm.weight")} == {"F32"}
    assert {kinds[name] for name in kinds if not name.endswith("norm.weight")} == {wanted}
    assert metadata["general.file_type"] == gguf.LlamaFileType[f"MOSTLY_{wanted}"]


def test_blocks_are_the_gguf_packages_own(tmp_path: Path, run: Path) -> None:
    export(str(run), tmp_path / "full.gguf")
    export(str(run), tmp_path / "small.gguf", dtype="q8_0")
    full = Gguf(tmp_path / "full.gguf")
    for tensor in gguf.GGUFReader(tmp_path / "small.gguf").tensors:
        if tensor.tensor_type == Kind.Q8_0:
            assert np.array_equal(tensor.data, gguf.quantize(full.read(tensor.name, ()), Kind.Q8_0))


def test_all_that_travels_along(tmp_path: Path, run: Path) -> None:
    source = tmp_path / "source"
    export(str(run), source)
    config = json.loads((source / "generation_config.json").read_text())
    config |= {"temperature": 0.35, "top_k": 17, "transformers_version": "5"}
    (source / "generation_config.json").write_text(json.dumps(config))
    (source / "README.md").write_text("---\nlicense: mit\n---\n# Ours\n\nKind words.\n")
    export(str(source), tmp_path / "out.gguf")
    metadata = read_gguf_metadata(tmp_path / "out.gguf")
    assert metadata["general.license"] == "mit" and metadata["general.name"] == "out"
    assert metadata["general.sampling.top_k"] == 17
    assert metadata["llama.rope.dimension_count"] == metadata["llama.attention.value_length"] == 8
    assert metadata["llama.vocab_size"] == 260
    told = (tmp_path / "out.Modelfile").read_text()
    assert told.startswith('FROM ./out.gguf\nTEMPLATE """') and "PARAMETER top_k 17\n" in told
    export(str(tmp_path / "out.gguf"), tmp_path / "back")
    back = json.loads((tmp_path / "back/generation_config.json").read_text())
    assert back == {key: value for key, value in config.items() if key != "transformers_version"}
    export(str(source), tmp_path / "copy")
    card = (tmp_path / "copy/README.md").read_text()
    assert "license: mit" in card and "Kind words." in card and "## Verification" in card
    first, last = open_model(str(run)), open_model(str(tmp_path / "back"))
    assert first.format is not None and last.format is not None
    assert last.format.template == first.format.template and last.format.stop_ids == first.format.stop_ids
    assert last.tokenizer.special_tokens == first.tokenizer.special_tokens


def test_rounding_is_the_same_on_every_mesh(tiny: DecoderConfig, params_of: Any) -> None:
    form = by_config(tiny).gguf
    assert form is not None

    def place(array: np.ndarray, like: Any) -> jax.Array:
        mesh = jax.sharding.get_mesh()
        return jax.device_put(array * np.float32(1.001), jax.NamedSharding(mesh, like.sharding.spec))

    found = []
    for config, devices in ((MeshConfig(), 1), (MeshConfig(fsdp=4, tensor=2), 8)):
        with jax.set_mesh(make_mesh(config, jax.devices()[:devices])):
            params = jax.tree.map(place, params_of(tiny), Model(tiny).abstract())
            moved = weights.round_in_place(params, form, tiny, gguf_writing.round_as("q8_0"))
        assert 0 < max(moved.values()) <= gguf_writing.ROUNDING["q8_0"]
        found.append(jax.tree.map(np.asarray, params))
    assert same(*found)


def test_a_weight_in_anothers_place_does_not_leave(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Tensor.write

    def wrong(self: Tensor, *given: Any) -> np.ndarray:
        array = write(self, *given)
        return np.roll(array, 1, 0) if "attn_q" in self.name else array

    monkeypatch.setattr(Tensor, "write", wrong)
    with pytest.raises(InputError, match=r"do not compute the same"):
        export(str(run), tmp_path / "out.gguf")
    with pytest.raises(InputError, match=r"rounding moves layers\.attn\.q by .* further than it can"):
        export(str(run), tmp_path / "out.gguf", dtype="q8_0")
    assert list(tmp_path.iterdir()) == []


def test_a_number_too_large_for_float16_is_named(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    params = params_of(tiny)
    params["layers"]["mlp"]["up"][1, 3, 4] = 1e5
    source = write_huggingface(tmp_path / "source", tiny, params)
    with pytest.raises(InputError, match=r"blk\.1\.ffn_up\.weight holds 100000, too large for float16"):
        export(str(source), tmp_path / "out.gguf", dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_what_is_there_is_not_overwritten(tmp_path: Path, run: Path) -> None:
    (tmp_path / "mine.gguf").write_text("mine")
    with pytest.raises(InputError, match=r"mine\.gguf exists; remove it or name another file"):
        export(str(run), tmp_path / "mine.gguf")
    assert (tmp_path / "mine.gguf").read_text() == "mine"
    (tmp_path / "other.Modelfile").write_text("FROM ./other.gguf")
    with pytest.raises(InputError, match=r"other\.Modelfile exists; remove it or name another file"):
        export(str(run), tmp_path / "other.gguf")
    with pytest.raises(InputError, match=r"to a Hugging Face folder as float32 .* not q8_0"):
        export(str(run), tmp_path / "folder", dtype="q8_0")


def test_a_disk_too_small_leaves_nothing(
    tmp_path: Path, run: Path, small_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("60k")
    with pytest.raises(InputError, match=r"needs 0\.1 GB and .* has 0\.0 GB free"):
        export(str(run), disk / "out.gguf")
    roomy = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: roomy)
    with pytest.raises(InputError, match=r"[Nn]o space left|cannot write out\.gguf"):
        export(str(run), disk / "out.gguf")
    assert list(disk.iterdir()) == []


def test_what_a_killed_export_left_is_cleared_away(tmp_path: Path, run: Path) -> None:
    left = tmp_path / ".out.gguf.partial"
    left.mkdir()
    (left / "out.gguf").write_bytes(b"GGUF half")
    export(str(run), tmp_path / "out.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.Modelfile", "out.gguf", "out.verification.json"]


@pytest.mark.slow
def test_llama_cpp_goes_on_as_we_do(smollm2_gguf: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python compiles for minutes; tools/check_llama_cpp.py")
    tool = Path(__file__).parents[2] / "tools/check_llama_cpp.py"
    done = subprocess.run([sys.executable, tool, smollm2_gguf], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
