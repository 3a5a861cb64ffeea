"""Opens a MODEL in any form: which form it is, its config, its tokenizer, its weights."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
from jax.sharding import Mesh

from jaxchat.chat.template import ChatFormat
from jaxchat.chat.tokenizer import Tokenizer, load_tokenizer
from jaxchat.errors import InputError
from jaxchat.files import check_room, resolve
from jaxchat.hub import peft, weights
from jaxchat.hub.adapter import AdapterRecord, fingerprint, read_record
from jaxchat.hub.checkpoints import Checkpoints
from jaxchat.hub.families import Format, by_architecture, by_model_type
from jaxchat.hub.gguf import Gguf
from jaxchat.hub.safetensors import INDEX, Safetensors
from jaxchat.mesh import make_mesh
from jaxchat.models import lora
from jaxchat.models.config import DecoderConfig
from jaxchat.models.config_json import from_json
from jaxchat.models.decoder import Model, Params
from jaxchat.progress import Bar

FORMS = (
    "a run's folder (its newest checkpoint, RUN@STEP or RUN@best), a Hugging Face folder or hub name (org/name), "
    "a folder of PEFT's with an adapter, a .gguf file, or package:NAME/FILE"
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_FILES = ["README.md", "*.json", "*.safetensors", "*.model", "*.jinja", "additional_chat_templates/*"]
_TOKENIZERS = ("tokenizer.json", "tokenizer.model")
_NOT_HUB_FILES = ["consolidated*", "original/*", "onnx/*"]


@dataclass(frozen=True)
class Place:
    """Where a MODEL lies. `step`: of a run, which checkpoint; None is the newest."""

    name: str
    kind: Literal["run", "huggingface", "peft", "gguf"]
    path: Path
    step: int | Literal["best"] | None = None

    @property
    def short(self) -> str:
        """What to call it elsewhere: its name, without this machine's folders."""
        return self.path.name if Path(self.name).exists() or self.kind == "run" else self.name


@dataclass(frozen=True)
class Opened:
    """A model, ready to compute on `mesh` (under `jax.set_mesh(mesh)`).

    format: None when the tokenizer has no chat template. step: of a run, the checkpoint's. description: for people.
    """

    place: Place
    config: DecoderConfig
    model: Model
    params: Any
    tokenizer: Tokenizer
    format: ChatFormat | None
    mesh: Mesh
    step: int | None
    description: str


def open_model(
    name: str,
    mesh: Mesh | None = None,
    step: int | None = None,
    model: Callable[[DecoderConfig], Model] = Model,
    label: str | None = None,
) -> Opened:
    """Opens MODEL with float32 parameters on `mesh` (one device by default), each device reading its own part.

    `step` picks a run's checkpoint, as RUN@STEP does. `model` makes the handle that says where arrays lie and in which
    precision they are used. With a `label`, progress is shown. Raises InputError for what is not a model, not whole, or
    not one that jaxchat computes.
    """
    place = locate(name)
    if step is not None:
        place = Place(place.name, place.kind, place.path, step)
    mesh = make_mesh() if mesh is None else mesh
    tokenizer = open_tokenizer(place)
    with jax.set_mesh(mesh):
        config, load, found, description = _READERS[place.kind](place)
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"{name}: its tokenizer knows {tokenizer.vocab_size:,} tokens and the model has embeddings for "
                f"{config.vocab_size:,}; they do not belong together"
            )
        handle = model(config)
        abstract = handle.abstract()
        total = 4 * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))
        with Bar(label, total, "bytes") if label else contextlib.nullcontext() as bar:
            params = load(abstract, mesh, lambda count: bar.advance(4 * count) if bar else None)
    chat = ChatFormat(tokenizer) if tokenizer.chat_template else None
    return Opened(place, config, handle, params, tokenizer, chat, mesh, found, description)


def open_config(name: str) -> DecoderConfig:
    """The shape of MODEL alone; no weights are read, and of a hub name only its config is fetched."""
    place = locate(name, ["config.json"])
    if place.kind == "run":
        return _run_config(place.path)
    if place.kind == "huggingface":
        return _huggingface_config(place.path)[0]
    if place.kind == "peft":
        return open_config(_peft_base(place)[0])
    return _gguf_config(Gguf(place.path))[0]


def open_tokenizer(place: Place) -> Tokenizer:
    """The tokenizer of a model."""
    if place.kind == "peft" and not any((place.path / name).is_file() for name in _TOKENIZERS):
        return open_tokenizer(locate(_peft_base(place)[0]))
    return load_tokenizer(place.path / "tokenizer" if place.kind == "run" else place.path)


def locate(name: str, hub_files: list[str] | None = None) -> Place:
    """Which form MODEL has, and where it lies; a hub name is fetched (`hub_files` alone, if given).

    Raises:
        InputError: it has none of the forms.
    """
    path = resolve(name)
    if path.is_dir():
        return _in_folder(name, path)
    if path.is_file():
        if path.suffix == ".gguf":
            return Place(name, "gguf", path)
        raise InputError(f"{name} is no model; MODEL is {FORMS}")
    run, at, step = name.rpartition("@")
    if at and resolve(run).is_dir():
        place = _in_folder(name, resolve(run))
        if place.kind != "run" or not (step.isdecimal() or step == "best"):
            raise InputError(f"{name}: after @ stands a run's step, such as {run}@60, or best")
        return Place(name, "run", place.path, "best" if step == "best" else int(step))
    if is_hub_name(name):
        return Place(name, "huggingface", _fetch(name, hub_files or _HUB_FILES))
    raise InputError(f"there is no {name}; MODEL is {FORMS}")


def is_hub_name(name: str) -> bool:
    """Whether `name` is of the hub's form and no path: one whose first part is a folder here is a misspelt path."""
    return bool(_HUB_NAME.fullmatch(name)) and not Path(name).parent.is_dir()


def _in_folder(name: str, path: Path) -> Place:
    if (path / "model.json").is_file():
        return Place(name, "run", path)
    if (path / peft.CONFIG).is_file():
        return Place(name, "peft", path)
    if (path / "config.json").is_file():
        if (path / INDEX).is_file() or any(path.glob("*.safetensors")):
            return Place(name, "huggingface", path)
        raise InputError(f"{name} holds a config.json and no .safetensors files; weights in another form are not read")
    if (path / "checkpoints").is_dir():
        raise InputError(f"{name} is a run without a model.json; it was never begun, start it again")
    raise InputError(f"the folder {name} holds no model; MODEL is {FORMS}")


def _fetch(name: str, files: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    asked: dict[str, Any] = {"allow_patterns": files, "ignore_patterns": _NOT_HUB_FILES}
    try:
        if files is _HUB_FILES:
            _check_cache_room(name, asked)
        return Path(snapshot_download(name, **asked))
    except (OSError, HFValidationError) as error:  # all that the network and the hub answer is an OSError
        reason = str(error).strip().splitlines()[0].rstrip(".")
        raise InputError(
            f"there is no folder {name} here, and the hub's model of that name cannot be fetched ({reason}); "
            "fetch it on a machine with a network and name its folder"
        ) from error


def _check_cache_room(name: str, asked: dict[str, Any]) -> None:
    """Raises InputError where the cache has no room for what is to be fetched; says nothing without a network."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import DryRunError

    try:
        files = snapshot_download(name, dry_run=True, **asked)
    except DryRunError:
        return
    missing = sum(file.file_size or 0 for file in files if file.will_download)
    check_room(constants.HF_HUB_CACHE, missing, f"{name} in the hub's cache")


# (abstract parameters, mesh, what is told how many numbers were read) -> parameters
Load = Callable[[Any, Mesh, Callable[[int], None]], Any]


def _open_run(place: Place) -> tuple[DecoderConfig, Load, int, str]:
    config = _run_config(place.path)
    checkpoints = Checkpoints(place.path / "checkpoints", read_only=True)
    if place.step is None:
        step = checkpoints.latest(params_only=True)
        if step is None:
            raise InputError(f"{place.name} has no checkpoint yet; train until its first save")
    elif place.step == "best":
        step = checkpoints.best()
        if step is None:
            raise InputError(f"{place.name}: no checkpoint was saved with a held-out loss; name a step instead of best")
    else:
        step = place.step

    record = read_record(place.path)

    def load(abstract: Any, mesh: Mesh, advance: Callable[[int], None]) -> Any:
        if record is None:
            params = checkpoints.restore_params(step, abstract)
        else:
            # Merged: plain weights serve whatever reads a model, and no token is slower for the adapter.
            attached = lora.attached(*open_adapted(place, checkpoints, step, record, mesh), record.adapter)
            params = lora.merged(attached, keep=False)
        advance(sum(leaf.size for leaf in jax.tree.leaves(params)))
        return params

    return config, load, step, f"{place.short} at step {step}"


def open_adapted(
    place: Place, checkpoints: Checkpoints, step: int, record: AdapterRecord, mesh: Mesh
) -> tuple[Params, Params]:
    """The weights below the adapter of a run's checkpoint, held as it was trained over them, and the adapter."""
    model = Model(_run_config(place.path))
    base = open_base(record, place.path, mesh)
    base = lora.held(base, model, record.adapter.base)
    abstract = jax.eval_shape(lambda base: lora.init(model, record.adapter, base, jax.random.key(0)), base)
    return base, checkpoints.restore_params(step, abstract)


def open_base(record: AdapterRecord, run: Path, mesh: Mesh, source: str | None = None) -> Params:
    """The weights below a run's adapter, float32, on `mesh`; `source`: where they lie now.

    Raises:
        InputError: they are not there, or are not those that the adapter was trained over.
    """
    source = source or record.base.source
    moved = f"name its place under base.source in {run / 'adapter.json'}"
    try:
        opened = open_model(source, mesh)
    except InputError as error:
        raise InputError(
            f"the model {source} below the adapter of {run} cannot be opened ({error}); put it back, or {moved}"
        ) from error
    with jax.set_mesh(mesh):
        same = opened.config == _run_config(run) and fingerprint(opened.params) == record.base.fingerprint
    if not same:
        raise InputError(
            f"the weights of {source} are not those that the adapter of {run} was trained over; "
            f"put those back, or {moved}"
        )
    return opened.params


def _open_huggingface(place: Place) -> tuple[DecoderConfig, Load, None, str]:
    config, form = _huggingface_config(place.path)
    source = Safetensors(place.path)
    return config, _from(source, form, config), None, place.short


def _open_peft(place: Place) -> tuple[DecoderConfig, Load, None, str]:
    """Its base, with the adapter merged in."""
    base, said = _peft_base(place)
    config = open_config(base)

    def load(abstract: Any, mesh: Mesh, advance: Callable[[int], None]) -> Any:
        opened = open_model(base, mesh)
        advance(config.parameters)
        return peft.merge(place.path, said, config, opened.params)

    return config, load, None, f"{place.short} over {Path(base).name}"


def _peft_base(place: Place) -> tuple[str, dict[str, Any]]:
    """What the base of PEFT's folder is opened by, and what the folder's config says."""
    said = read_json(place.path / peft.CONFIG)
    base = peft.base_of(place.path, said)
    try:
        locate(base, ["config.json"])
    except InputError as error:
        raise InputError(
            f"the model below the adapter {place.name} cannot be opened ({error}); name its place under "
            f"base_model_name_or_path in {place.path / peft.CONFIG}"
        ) from error
    return base, said


def _open_gguf(place: Place) -> tuple[DecoderConfig, Load, None, str]:
    source = Gguf(place.path)
    config, form = _gguf_config(source)
    return config, _from(source, form, config), None, place.short


_READERS: dict[str, Callable[[Place], tuple[DecoderConfig, Load, int | None, str]]] = {
    "run": _open_run,
    "huggingface": _open_huggingface,
    "peft": _open_peft,
    "gguf": _open_gguf,
}


def _from(source: weights.Source, form: Format, config: DecoderConfig) -> Load:
    return lambda abstract, mesh, advance: weights.load(source, form, config, abstract, mesh, advance)


def _run_config(run: Path) -> DecoderConfig:
    path = run / "model.json"
    return from_json(read_json(path), str(path))


def _huggingface_config(folder: Path) -> tuple[DecoderConfig, Format]:
    path = folder / "config.json"
    config_json = read_json(path)
    form = by_model_type(config_json, str(path)).huggingface
    return form.read(config_json, str(path)), form


def _gguf_config(source: Gguf) -> tuple[DecoderConfig, Format]:
    form = by_architecture(source.metadata.get("general.architecture"), source.where)
    return form.read(source.metadata, source.where), form


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError when the file is missing or holds something else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object")
    return value
