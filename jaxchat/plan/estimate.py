"""A guess, from shapes alone and within seconds, of what a setting needs and how fast it is: to choose what to compile,
and to say what would fit where something cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from jaxchat.errors import InputError
from jaxchat.mesh import make_mesh
from jaxchat.models.config import DecoderConfig, Mixture
from jaxchat.plan.chips import flops
from jaxchat.plan.memory import least
from jaxchat.plan.topology import Topology
from jaxchat.plan.work import Phase, Setting, Work

BYTES = 2  # of an activation, and of a weight in use
# Arrays of a layer's hidden units, and of its width, that its backward pass holds at once: what XLA was seen to hold.
HIDDEN, WIDTH = 7, 12


@dataclass(frozen=True)
class Estimate:
    """bytes: of a device's memory at the peak. seconds: of a step."""

    setting: Setting
    bytes: int
    seconds: float

    def tokens_per_second(self, seq_len: int) -> float:
        return self.setting.batch * seq_len / self.seconds


def estimate(work: Work, setting: Setting, topology: Topology) -> Estimate | None:
    """Of a training step; None where the setting and the model do not go together."""
    try:
        mesh = make_mesh(setting.mesh, topology.devices)
        with jax.set_mesh(mesh):
            phase = work.build(setting, mesh)[0]
            certain = least(phase)
    except InputError:
        return None
    if mesh.size < topology.count:
        return None
    held = sum(certain.values()) + _working(work, setting, mesh)
    return Estimate(setting, held, _seconds(work, setting, topology, mesh, phase))


def _working(work: Work, setting: Setting, mesh: Mesh) -> int:
    """What one layer, or the loss, needs while it is computed."""
    model, sizes = work.model, dict(mesh.shape)
    split = sizes["tensor"]
    rows = setting.batch / setting.accumulate / (sizes["data"] * sizes["fsdp"] * sizes["expert"])
    tokens = rows * work.seq_len / sizes["context"]
    around = model.vocab_size * model.width * (1 if model.tied else 2)
    weights = (sum(_weights(model, sizes)) - around / split) / model.layers
    layer = tokens * (HIDDEN * model.hidden / split + WIDTH * model.width) * BYTES
    return int(layer + 2 * weights * BYTES)


def _weights(model: DecoderConfig, sizes: Mapping[str, int]) -> tuple[float, float]:
    """Parameters that a device computes with: those that all tokens meet, and its part of a mixture's experts."""
    experts = 0
    if isinstance(model.mlp, Mixture):
        experts = model.layers * model.mlp.experts * 3 * model.width * model.hidden
    return (model.parameters - experts) / sizes["tensor"], experts / (sizes["tensor"] * sizes["expert"])


def _seconds(work: Work, setting: Setting, topology: Topology, mesh: Mesh, phase: Phase) -> float:
    """Computing and, beside it, gathering and reducing weights; the tensor axis' sums of activations, the context axis'
    keys and values and the expert axis' tokens come on top."""
    model, sizes, chip = work.model, dict(mesh.shape), topology.chip
    compute = phase.computed / mesh.size / flops(chip)
    common, experts = (count * BYTES for count in _weights(model, sizes))
    fetches = 2 * setting.accumulate * (2 if sizes["fsdp"] > 1 else 0)
    copies = sizes["fsdp"] * sizes["data"]
    sums, sums_of_experts = (2 if count > 1 else 0 for count in (copies * sizes["expert"], copies))
    gathered = (common * (fetches + sums) + experts * (fetches + sums_of_experts)) / (chip.link * 2)
    tokens = setting.batch * work.seq_len / (sizes["data"] * sizes["fsdp"] * sizes["expert"] * sizes["context"])
    summed = 0.0
    if sizes["tensor"] > 1:
        summed = 4 * 2 * model.layers * tokens * model.width * BYTES / (chip.link * 2)
    if sizes["context"] > 1:
        summed += (
            4 * model.layers * tokens * sizes["context"] * 2 * model.kv_heads * model.head_size * BYTES / chip.link
        )
    if experts and sizes["expert"] > 1:
        summed += 4 * model.layers * tokens * sizes["expert"] * model.width * BYTES / chip.link
    across = 0.0
    if topology.slices > 1:
        across = 2 * (common / sizes["expert"] + experts) / sizes["fsdp"] / chip.network
    return max(compute, gathered) + summed + across
