"""Writes a run's adapter alone in PEFT's format, reads it back over its base, and lets it out only if it computes the
same."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from jaxchat.errors import InputError
from jaxchat.files import check_new_folder, new_folder, replacing
from jaxchat.hub import peft, proof
from jaxchat.hub.adapter import AdapterRecord, read_record
from jaxchat.hub.checkpoints import Checkpoints
from jaxchat.hub.export import BOUND, Exported, agreed, compared_rows
from jaxchat.hub.open import Opened, Place, locate, open_adapted, open_model
from jaxchat.models import lora
from jaxchat.models.quantised import Float32


def export_adapter(source: str, out: Path, *, data: Path | None = None) -> Exported:
    """Writes the adapter of the run `source` to the folder `out`, which must be free: adapter_config.json,
    adapter_model.safetensors, tokenizer, chat template, a model card, and verification.json.

    It is read back as any MODEL is, merged into its base, and its logits compared in float32 with those of the adapter
    in the run's checkpoint over the same base. Where the run held its base in few bits, verification.json also says how
    far the logits lie from those of the run itself.

    Raises:
        InputError: the run has no adapter or its base is not there, or the logits differ by more than BOUND; `out` is
            not there then.
    """
    check_new_folder(out)
    place = locate(source)
    record = read_record(place.path) if place.kind == "run" else None
    if record is None:
        raise InputError(f"{source} is no run of an adapter, so none can be saved; leave out --adapter-only")
    opened = open_model(source, label="reading weights")
    rows = compared_rows(opened, data)
    with jax.set_mesh(opened.mesh):
        as_run = proof.logits(opened.model, opened.params, rows, "computing logits")
        opened = dataclasses.replace(opened, params=None)
        adapter, merged = _over_whole_base(opened, place, record)
        expected = as_run
        if record.adapter.base != Float32():
            expected = proof.logits(opened.model, merged, rows, "computing logits over the whole base")
        with new_folder(out) as folder:
            peft.write(folder, opened.model, adapter, record.adapter, merged, record.base.source)
            del merged
            opened.tokenizer.save(folder)
            verification = _verify(opened, folder, out, rows, expected)
            verification["max_logit_difference_from_run"] = proof.compare(as_run, expected).max_logit_difference
            with replacing(folder / "verification.json") as file:
                json.dump(verification, file, indent=2)
                file.write("\n")
            with replacing(folder / "README.md") as file:
                file.write(_card(opened, out.name, record, verification))
    return Exported(out, verification, opened.description)


def _over_whole_base(opened: Opened, place: Place, record: AdapterRecord) -> tuple[Any, Any]:
    """The adapter, and the float32 weights that it makes of its base."""
    checkpoints = Checkpoints(place.path / "checkpoints", read_only=True)
    assert opened.step is not None
    whole = dataclasses.replace(record, adapter=dataclasses.replace(record.adapter, base=Float32()))
    base, adapter = open_adapted(place, checkpoints, opened.step, whole, opened.mesh)
    return adapter, lora.merged(lora.attached(base, adapter, whole.adapter), keep=False)


def _verify(opened: Opened, folder: Path, out: Path, rows: list[list[int]], expected: list[Any]) -> dict[str, Any]:
    again = open_model(str(folder), opened.mesh, label="reading back")
    found = proof.logits(again.model, again.params, rows, "computing logits of what was written")
    return {
        **dataclasses.asdict(agreed(expected, found, out)),
        "bound": BOUND,
        "dtype": "float32",
        "compared_with": f"{opened.description}, over its base in float32",
    }


def _card(opened: Opened, name: str, record: AdapterRecord, verification: dict[str, Any]) -> str:
    base, kind = record.base.source, type(record.adapter).__name__
    return f"""---
library_name: peft
base_model: {base}
tags:
- jaxchat
- lora
---

# {name}

A {kind} adapter of rank {record.adapter.rank} over `{base}`, trained with jaxchat.

## Use

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("BASE")  # `jaxchat hf import {base} --out BASE` makes this folder
model = PeftModel.from_pretrained(base, "{name}")
```

```
jaxchat chat {name}
```

## Verification

Read back after it was written, this adapter's logits differ from those of {verification["compared_with"]} by at most
{verification["max_logit_difference"]:.3g}, over {verification["tokens_compared"]:,} tokens (`verification.json`).
"""
