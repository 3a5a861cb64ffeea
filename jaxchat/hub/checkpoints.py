"""A run's checkpoints: saved by Orbax in the background, whole or absent, any mesh in and any mesh out.

checkpoints/STEP/params/    the parameters, restorable alone
                rest/       everything else of the training state, each leaf under its path
                metrics/    the measurements that `save` was given
                files.json  sizes and checksums of the above, by which damage is found
checkpoints/STEP.damaged/   a step that was found damaged on resuming, set aside
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jaxchat.distributed.agreement import on_first
from jaxchat.errors import InputError
from jaxchat.hub.manifest import damage, write_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    import orbax.checkpoint as ocp

State = TypeVar("State")

PARAMS, REST, METRICS = "params", "rest", "metrics"
# Room beside the arrays themselves that a save needs to be let begin.
SPARE_BYTES = 16 * 1024**2


class Checkpoints:
    """The checkpoints of one run, newest `keep` and the best by `metrics["loss"]` kept.

    A state is any frozen dataclass registered with JAX that has `params`, a nested dict. One object writes a folder at
    a time; any number may read with `read_only`, which changes nothing on the disk.
    """

    def __init__(self, folder: str | Path, keep: int = 2, *, read_only: bool = False) -> None:
        from etils import epath

        if keep < 1:
            raise InputError(f"checkpoint.keep is {keep}; keep at least 1 to go on from")
        local = "://" not in str(folder)
        self.folder = epath.Path(Path(folder).absolute() if local else str(folder))
        self.keep, self.read_only, self.local = keep, read_only, local
        self._checked: dict[tuple[int, str], str | None] = {}
        self._opened: ocp.CheckpointManager | None = None
        self._saving: int | None = None
        _quieten()

    def steps(self) -> list[int]:
        """Steps that have a folder, oldest first; not all need be whole."""
        if not self.folder.exists():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir())

    def latest(self, *, params_only: bool = False) -> int | None:
        """The newest step that is whole, None when nothing was ever saved.

        A damaged one is passed over with a line on standard error and, unless `read_only`, set aside. `params_only`:
        only the parameters need be whole. Every file of the step is read, to check it.
        Raises InputError when there are checkpoints and none is whole.
        """
        items = (PARAMS,) if params_only else (PARAMS, REST, METRICS)
        return on_first(lambda: self._latest(items))  # so that no two processes go on from different steps

    def best(self) -> int | None:
        """The step with the lowest held-out loss of those that are left; None when none was saved with a loss."""
        losses = {step: self._loss(step) for step in self.steps()}
        known = {step: loss for step, loss in losses.items() if loss is not None}
        return min(known, key=lambda step: known[step]) if known else None

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None, *, wait: bool = False) -> None:
        """Copies `state` to the host and writes it in the background; the caller may donate its buffers at once.

        A step that is there already is left as it is. Raises InputError when the disk is full, here or at the next
        call; earlier checkpoints are intact then.
        """
        import orbax.checkpoint as ocp

        manager = self._manager()
        params, rest = _split(state)
        with self._telling(step):
            manager.wait_until_finished()
            if step in manager.all_steps():
                return
            self._check_room(step, (params, rest))
            self._saving = step
            items = ocp.args.Composite(**{PARAMS: ocp.args.PyTreeSave(params), REST: ocp.args.PyTreeSave(rest)})
            manager.save(step, args=items, metrics=dict(metrics) if metrics else None, force=True)
        if wait:
            self.wait()

    def restore(self, step: int, abstract_state: State) -> State:
        """The state of `step`, placed as `abstract_state` (shapes, dtypes, shardings; any mesh) asks.

        Raises InputError when the step is damaged or of another model or optimizer.
        """
        params, rest = _split(abstract_state)
        leaves = self._read(step, PARAMS, params) | self._read(step, REST, rest)
        paths, tree = jax.tree_util.tree_flatten_with_path(abstract_state)
        return jax.tree_util.tree_unflatten(tree, [leaves[_name(path)] for path, _ in paths])

    def restore_params(self, step: int, abstract_params: Any) -> Any:
        """The parameters of `step` alone, without reading the rest of its state."""
        leaves = self._read(step, PARAMS, _flat(abstract_params, f"{PARAMS}."))
        paths, tree = jax.tree_util.tree_flatten_with_path(abstract_params)
        return jax.tree_util.tree_unflatten(tree, [leaves[f"{PARAMS}.{_name(path)}"] for path, _ in paths])

    def wait(self) -> None:
        """Blocks until what is being saved is on the disk. Raises InputError when it could not be."""
        if self._opened is not None:
            with self._telling(self._saving):
                self._opened.wait_until_finished()

    def close(self) -> None:
        """Waits, then frees threads."""
        try:
            self.wait()
        finally:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _latest(self, items: tuple[str, ...]) -> int | None:
        steps = self.steps()
        for step in reversed(steps):
            problem = self._damage(step, items)
            if problem is None:
                return step
            aside = "" if self.read_only else f"; set aside as {self._set_aside(step).name}"
            earlier = [other for other in steps if other < step]
            then = f", going back to step {earlier[-1]}" if earlier else ""
            print(f"the checkpoint {self.folder / str(step)} is damaged: {problem}{aside}{then}", file=sys.stderr)
        if steps:
            raise InputError(
                f"{self.folder}: none of the checkpoints (steps {', '.join(map(str, steps))}) is whole; "
                "restore the folder from a copy, or remove it to begin again"
            )
        return None

    def _damage(self, step: int, items: tuple[str, ...]) -> str | None:
        for item in items:
            if (step, item) not in self._checked:
                self._checked[step, item] = damage(self.folder / str(step), item)
            if self._checked[step, item]:
                return self._checked[step, item]
        return None

    def _set_aside(self, step: int) -> Any:
        place = self.folder / f"{step}.damaged"
        if place.exists():
            place.rmtree()
        for item in (PARAMS, REST, METRICS):
            self._checked.pop((step, item), None)
        (self.folder / str(step)).rename(place)
        return place

    def _loss(self, step: int) -> float | None:
        try:
            metrics = json.loads((self.folder / str(step) / METRICS / METRICS).read_text())
            loss = float(metrics["loss"])
            return loss if math.isfinite(loss) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _read(self, step: int, item: str, abstract: dict[str, Any]) -> dict[str, Any]:
        """One item's leaves by path."""
        import orbax.checkpoint as ocp

        place = self.folder / str(step) / item
        if not place.exists():
            raise InputError(f"{self.folder} has no whole checkpoint of step {step}; it has {self._have()}")
        problem = self._damage(step, (item,))
        if problem:
            raise InputError(f"the checkpoint {self.folder / str(step)} is damaged: {problem}; it has {self._have()}")
        with ocp.Checkpointer(_handler()) as reader:
            found = dict(reader.metadata(place).item_metadata.tree)
            _check_same(abstract, found, str(self.folder / str(step)))
            wanted = {name: _placed(leaf) for name, leaf in abstract.items()}
            how = ocp.checkpoint_utils.construct_restore_args(wanted)
            return reader.restore(place, args=ocp.args.PyTreeRestore(wanted, restore_args=how))

    def _have(self) -> str:
        steps = self.steps()
        return f"the steps {', '.join(map(str, steps))}" if steps else "no other"

    def _manager(self) -> ocp.CheckpointManager:
        """Orbax's manager, made at the first save: it clears away what a killed save left."""
        if self.read_only:
            raise ValueError("these checkpoints were opened to be read only")
        if self._opened is None:
            import orbax.checkpoint as ocp

            def loss(metrics: Mapping[str, float]) -> float:
                value = float(metrics.get("loss", math.inf))
                return math.inf if math.isnan(value) else value

            policies = ocp.checkpoint_managers
            options = ocp.CheckpointManagerOptions(
                best_fn=loss,  # Orbax writes metrics down only where there is one
                best_mode="min",
                preservation_policy=policies.AnyPreservationPolicy(
                    [
                        policies.LatestN(self.keep),
                        policies.BestN(get_metric_fn=loss, reverse=True, n=1, keep_checkpoints_without_metrics=False),
                    ]
                ),
                cleanup_tmp_directories=True,
                async_options=ocp.options.AsyncOptions(post_finalization_callback=self._before_commit),
            )
            handlers = {PARAMS: _handler(), REST: _handler()}
            self._opened = ocp.CheckpointManager(self.folder, item_handlers=handlers, options=options)
        return self._opened

    def _before_commit(self) -> None:
        """Runs on the first host, in Orbax's thread, when a step's files are written and not yet under its name."""
        name = str(self._saving)
        unfinished = [path for path in self.folder.iterdir() if path.name.startswith(f"{name}.orbax-checkpoint-tmp")]
        for folder in unfinished or [self.folder / name]:
            write_manifest(folder, checksums=self.local and jax.process_count() == 1)

    def _check_room(self, step: int, trees: Any) -> None:
        if not self.local:
            return
        # What this host writes of the arrays that all hosts share.
        need = sum(leaf.nbytes for leaf in jax.tree.leaves(trees)) // jax.process_count()
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < need + SPARE_BYTES:
            raise self._full(step, f"{_size(need)} are needed and {_size(free)} are free")

    def _full(self, step: int | None, detail: str) -> InputError:
        kept = [other for other in self.steps() if other != step]
        intact = f"step {kept[-1]} is intact, and the same command goes on from it" if kept else "none was saved yet"
        return InputError(
            f"no space left to save the checkpoint of step {step} in {self.folder} ({detail}); free some: {intact}"
        )

    @contextmanager
    def _telling(self, step: int | None) -> Iterator[None]:
        """Turns what the disk refused, in whichever thread, into an InputError, and clears the unfinished step away."""
        try:
            yield
        except InputError:
            raise
        except Exception as error:
            text = _chain(error)
            if self.local and step is not None:
                for path in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
                    shutil.rmtree(path, ignore_errors=True)
            if "No space left" in text or "Disk quota exceeded" in text:
                raise self._full(step, "the disk is full") from error
            if isinstance(error, OSError):
                raise InputError(f"cannot save the checkpoint of step {step} in {self.folder}: {error}") from error
            raise


def _handler() -> Any:
    import orbax.checkpoint as ocp

    # Trained float32 weights hardly compress (8 %), and compressing them takes longer than writing them.
    return ocp.PyTreeCheckpointHandler(use_compression=False)


def _split(state: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Leaves by path: those of the parameters and all others."""
    leaves = _flat(state)
    rest = {name: leaf for name, leaf in leaves.items() if not name.startswith(f"{PARAMS}.")}
    return {name: leaf for name, leaf in leaves.items() if name not in rest}, rest


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    return {prefix + _name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _placed(leaf: Any) -> jax.ShapeDtypeStruct:
    """`leaf` with a sharding over devices: what `eval_shape` gives only names axes, those of the current mesh."""
    mesh, sharding = jax.sharding.get_mesh(), getattr(leaf, "sharding", None)
    if isinstance(sharding, NamedSharding) and not mesh.empty and not isinstance(sharding.mesh, jax.sharding.Mesh):
        sharding = NamedSharding(mesh, sharding.spec, memory_kind=sharding.memory_kind)
    if sharding is None and not mesh.empty:
        sharding = NamedSharding(mesh, PartitionSpec())
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _check_same(wanted: Mapping[str, Any], found: Mapping[str, Any], where: str) -> None:
    for name, leaf in wanted.items():
        if name not in found:
            raise InputError(f"the checkpoint {where} has no {name}; it is of another model or optimizer")
        if tuple(found[name].shape) != tuple(leaf.shape):
            raise InputError(
                f"the checkpoint {where} has {name} in the shape {tuple(found[name].shape)}, not {tuple(leaf.shape)}; "
                "it is of another model"
            )
    extra = [name for name in found if name not in wanted]
    if extra:
        raise InputError(f"the checkpoint {where} holds {extra[0]} besides; it is of another model or optimizer")


def _chain(error: BaseException | None) -> str:
    texts = []
    while error is not None:
        texts.append(f"{error}")
        error = error.__cause__ or error.__context__
    return " ".join(texts)


def _size(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB" if count > 1024**3 else f"{count / 1024**2:.0f} MiB"


def _quieten() -> None:
    """Orbax logs what it also raises, with tracebacks; what it raises is told to the person in one sentence."""
    logger = logging.getLogger("absl")
    if not any(isinstance(each, _NotOrbax) for each in logger.filters):
        logger.addFilter(_NotOrbax())


class _NotOrbax(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "orbax" not in Path(record.pathname).parts
