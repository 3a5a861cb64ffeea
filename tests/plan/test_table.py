"""What a plan's figures leave out stands beside them, for a program and for a person."""

from __future__ import annotations

import pytest

from jaxchat.mesh import MeshConfig
from jaxchat.plan.planning import Made, Plan
from jaxchat.plan.roofline import Roofline
from jaxchat.plan.table import table
from jaxchat.plan.topology import topology
from jaxchat.plan.work import Phase, Setting

LINE = (
    "2xv5e:2x2: what TPUs send between slices, through their hosts, is not counted: a step takes longer and costs more"
)


def planned(name: str, line: Roofline | None) -> Plan:
    phase = Phase("train", lambda: None, {}, list, flops=1e12, computed=1e12, tokens=1024)
    made = Made(phase, {}, 0, compiled=True, fits=True, seconds=0.0, roofline=line)
    return Plan(topology(name), Setting(MeshConfig(), 8), {}, 128, 10, [made], price=1.0)


@pytest.mark.parametrize(("name", "left_out"), [("2xv5e:2x2", 1), ("v5e:2x2", 0), ("h100:16", 0)])
def test_what_goes_between_slices_of_tpus_is_said_not_to_be_counted(name, left_out):
    plan = planned(name, Roofline(1.0, 0.0, 0.0, 0.0))
    assert len(plan.to_json()["not_counted"]) == left_out
    assert [line for line in table([plan]) if "not counted" in line] == [LINE] * left_out


def test_a_plan_without_times_leaves_nothing_out_of_them():
    assert not any("not counted" in line for line in table([planned("2xv5e:2x2", None)]))
