"""What a search tries."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jaxchat.mesh import COPIES, EXPERTS, SHARDED, MeshConfig
from jaxchat.models.config import Mixture
from jaxchat.models.presets import tiny
from jaxchat.plan.search import candidates
from jaxchat.plan.topology import topology
from jaxchat.plan.work import Setting, Work


@pytest.mark.parametrize("slices", [1, 2])
def test_a_search_tries_the_presets_over_all_slices_and_experts_only_where_there_are_some(slices):
    on = topology(f"{slices}xv5e:4x4")
    setting = Setting(MeshConfig(fsdp=-1, slices=slices), batch=on.chips)
    for model, mixed in ((tiny(), False), (replace(tiny(), mlp=Mixture(experts=8, chosen=2)), True)):
        tried = {one.mesh for one in candidates(Work(setting, model, 4096, None, lambda *_: []), setting, on)}
        assert {replace(COPIES, slices=slices), replace(SHARDED, slices=slices)} <= tried
        assert (replace(EXPERTS, slices=slices) in tried) == mixed
        assert {mesh.slices for mesh in tried} == {slices}
