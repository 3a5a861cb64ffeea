"""The README.md of an exported model: what it is, what it was trained on and how, what was measured, how to use it.

What a run knows is read from its config.json and metrics.jsonl; a fact that is not there is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxchat.chat.gguf_metadata import read_gguf_metadata
from jaxchat.errors import InputError
from jaxchat.files import resolve

if TYPE_CHECKING:
    from jaxchat.hub.open import Opened

Json = Mapping[str, Any]

# What a reader of the card wants of a run's config first; the rest of it stands in the run's own folder.
_RECIPE = (
    ("steps", "steps"),
    ("epochs", "epochs"),
    ("rows a step", "data.batch"),
    ("tokens a row", "data.seq_len"),
    ("trained tokens", "data.train_on"),
    ("held-out share", "data.heldout"),
    ("gradient accumulation", "accumulate"),
    ("compute", "compute"),
    ("seed", "seed"),
)
# What packing counted of each source.
_COUNTS = (("conversations", "conversations"), ("rows", "rows"), ("tokens", "tokens"), ("trained on", "targets"))
_SPLITS = {"train": "trained on", "heldout": "held out"}


def card(opened: Opened, name: str, run: Path | None, verification: Json, weight_bytes: int) -> str:
    """The card of `opened`, exported as `name` with `weight_bytes` of weights. `run`: the folder it was trained in.

    A Hugging Face folder's own card travels along, but for the proof, which is this export's.
    """
    own = opened.place.path / "README.md"
    if opened.place.kind == "huggingface" and own.is_file():
        text = re.sub(
            r"\n## Verification\n.*?(?=\n## |\Z)", "", own.read_text("utf-8", errors="replace"), flags=re.DOTALL
        )
        return f"{text.rstrip()}\n\n{_proof(verification)}\n"
    config = _json(run / "config.json") if run else {}
    records = list(_records(run / "metrics.jsonl")) if run else []
    records = [record for record in records if opened.step is None or record.get("step", 0) <= opened.step]
    base = _at(config, "model.source")
    sections = [
        _header(opened, base),
        _title(opened, name, base, run),
        _use(opened, name),
        _model(opened, verification, weight_bytes),
        _data(config),
        _recipe(config),
        _measurements(records),
        _proof(verification),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(opened: Opened, base: str | None) -> str:
    """The YAML that Hugging Face's hub reads."""
    from jaxchat.hub.open import is_hub_name

    origin = base or opened.place.name
    lines = ["library_name: transformers", "pipeline_tag: text-generation", "tags:", "- jaxchat", "- conversational"]
    if is_hub_name(origin):
        lines.append(f"base_model: {origin}")
    if license := _license(origin):
        lines.append(f"license: {license}")
    return "\n".join(["---", *lines, "---"])


def _title(opened: Opened, name: str, base: str | None, run: Path | None) -> str:
    size = f"{_rough(opened.config.parameters)} parameters"
    if run is None:
        text = f"A language model of {size}, converted from `{opened.place.short}` by jaxchat."
    elif base:
        short = Path(base).name if Path(base).exists() else base
        text = f"A chat model of {size}, fine-tuned from `{short}` with jaxchat."
    else:
        text = f"A chat model of {size}, trained from scratch with jaxchat."
    return f"# {name}\n\n{text}"


def _use(opened: Opened, name: str) -> str:
    loads = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{name}")\n'
        f'model = AutoModelForCausalLM.from_pretrained("{name}")\n'
    )
    if opened.format is None:
        asks = 'inputs = tokenizer("Once upon a time", return_tensors="pt")\n'
    else:
        asks = (
            'messages = [{"role": "user", "content": "Hello! Who are you?"}]\n'
            "inputs = tokenizer.apply_chat_template(\n"
            '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True\n'
            ")\n"
        )
    answers = (
        "output = model.generate(**inputs, max_new_tokens=128)\n"
        'print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))'
    )
    ours = f"jaxchat chat {name}" if opened.format else f'jaxchat generate {name} --prompt "Once upon a time"'
    return f"## Use\n\n```python\n{loads}{asks}{answers}\n```\n\n```\n{ours}\n```"


def _model(opened: Opened, verification: Json, weight_bytes: int) -> str:
    c = opened.config
    return "## Model\n\n" + _table(
        [
            ("parameters", f"{c.parameters:,}"),
            ("layers x width", f"{c.layers} x {c.width}"),
            ("query heads, key-value heads x size", f"{c.heads}, {c.kv_heads} x {c.head_size}"),
            ("hidden units", f"{c.hidden:,}"),
            ("vocabulary", f"{c.vocab_size:,}"),
            ("context", f"{c.context_length:,} tokens"),
            ("weights", f"{verification['dtype']}, {_rough(weight_bytes)} bytes"),
        ]
    )


def _data(config: Json) -> str:
    head, rows = data_table(config)
    if not rows:
        return ""
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * len(_COUNTS)]
    cells = ([f"`{source}`", *others] for source, *others in rows)
    return "\n".join(["## Data", "", *lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in cells)])


def data_table(config: Json) -> tuple[list[str], list[list[str]]]:
    """What a run's config.json says of its data: a head, and a row of texts a source and split."""
    sources = _at(config, "data.sources") or []
    packed = _at(config, "resolved.packed") or []
    rows = []
    for source, splits in zip(sources, [*packed, *({} for _ in sources)]):
        for split, counts in (splits or {"all": {}}).items():
            rows.append(
                [_source(source), _SPLITS.get(split, split), *(_figure(counts.get(name)) for _, name in _COUNTS)]
            )
    return ["source", "split", *(label for label, _ in _COUNTS)], rows


def _source(source: Any) -> str:
    """One source of the data, as its config names it, without the machine's folders."""
    if not isinstance(source, dict):
        return str(source)
    name = source.get("format") or Path(str(source.get("path", "?"))).name
    options = ", ".join(f"{key} {value}" for key, value in source.get("options") or ())
    weight = f", weight {source['weight']}" if source.get("weight") else ""
    return str(name) + (f" ({options})" if options else "") + weight


def _recipe(config: Json) -> str:
    rows = recipe(config)
    return "## Recipe\n\n" + _table(rows) if rows else ""


def recipe(config: Json) -> list[tuple[str, str]]:
    """What a reader wants of a run's config.json first: names and values."""
    rows = [(label, _at(config, path)) for label, path in _RECIPE]
    optim = {key: value for key, value in (_at(config, "optim") or {}).items() if key != "type"}
    rows += [(f"optimizer: {key.removesuffix(' type')}", value) for key, value in _flat(optim)]
    return [(label, _figure(value)) for label, value in rows if value is not None]


def _measurements(records: list[Json]) -> str:
    """The first and last held-out measurements side by side, and the last step's."""
    held_out = [record for record in records if isinstance(record.get("eval"), dict)]
    steps = [record for record in records if "loss" in record]
    parts = []
    if held_out:
        first, last = held_out[0], held_out[-1]
        before, after = dict(_flat(first["eval"])), dict(_flat(last["eval"]))
        head = f"| held out | step {first['step']} | step {last['step']} |\n|---|---:|---:|"
        rows = [f"| {key} | {_figure(before.get(key))} | {_figure(after[key])} |" for key in after]
        parts.append("\n".join([head, *rows]))
    if steps:
        last = steps[-1]
        shown = [(key, last[key]) for key in ("step", "loss", "tokens_per_second") if key in last]
        parts.append(
            "Last step: " + ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in shown) + "."
        )
    return "## Measurements\n\n" + "\n\n".join(parts) if parts else ""


def _proof(verification: Json) -> str:
    differ, tokens = verification["max_logit_difference"], verification["tokens_compared"]
    text = (
        f"Read back after they were written, these weights' logits differ from those of "
        f"{verification['compared_with']} by at most {differ:.3g} in float32, over {tokens:,} tokens "
        "(`verification.json`)."
    )
    if verification["dtype"] != "float32":
        text += (
            f" Rounding the weights to {verification['dtype']} moved logits by at most "
            f"{verification['max_logit_difference_by_rounding']:.3g}."
        )
    return "## Verification\n\n" + text


def license_of(opened: Opened) -> str | None:
    """The licence of `opened`, or of the model that it was fine-tuned from, where that is known here."""
    run = opened.place.path if opened.place.kind == "run" else None
    return _license((_at(_json(run / "config.json"), "model.source") if run else None) or opened.place.name)


def _license(origin: str) -> str | None:
    """The licence that the model it came from declares, where that lies on this machine."""
    try:
        path = resolve(origin)
        if path.suffix == ".gguf":
            text = read_gguf_metadata(path).get("general.license")
        else:
            found = re.search(
                r"\A---\n(?:.*\n)*?license: *(\S+)\n(?:.*\n)*?---", (path / "README.md").read_text("utf-8")
            )
            text = found and found[1]
    except (InputError, OSError, ValueError):
        return None
    return text if isinstance(text, str) and re.fullmatch(r"[\w.+-]+", text) else None


def _json(path: Path) -> Json:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _records(path: Path) -> Iterator[Json]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # the last line of a run that was killed
        if isinstance(record, dict):
            yield record


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested JSON with readable names."""
    items: Iterable[tuple[Any, Any]]
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list) and any(isinstance(item, Mapping | list) for item in value):
        items = enumerate(value, 1) if len(value) > 1 else (("", value[0]),)
    else:
        yield prefix.replace("_", " "), value
        return
    for key, inner in items:
        yield from _flat(inner, f"{prefix} {key}".strip())


def _table(rows: Iterable[tuple[str, Any]]) -> str:
    return "\n".join(
        ["| | |", "|---|---|", *(f"| {_cell(label)} | {_cell(_figure(value))} |" for label, value in rows)]
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rough(count: int) -> str:
    """`134.5 million`."""
    for size, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= size:
            return f"{count / size:,.1f} {name}"
    return str(count)


def _figure(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(_figure, value))
    return str(value)
