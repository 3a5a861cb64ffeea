"""What launch.sh says that machines cost is what `jaxchat plan` reckons with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from jaxchat.plan.prices import prices

ROOT = Path(__file__).parents[2]
TABLE = "jaxchat/plan/prices.toml"
NAMES = {"v5e": "v5litepod", "a100": "A100-80GB", "h100": "H100", "h200": "H200", "b200": "B200"}
TABLE_OF_SPOT = "v5e = 1.20 # a chip\nv6e=2.70\n\n[spot]\nv5e = 0.5\nv4 = 1\n"


def cost(root, kind, count, capacity):
    """What common.sh has to say of `count` chips."""
    script = 'root=$1; source "$2/cloud/common.sh"; price "$3" "$4" "$5"; echo "${hourly:-none}"; echo "$cost"'
    words = ["bash", "-euo", "pipefail", "-c", script, "-", root, ROOT, kind, str(count), capacity]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("kind", prices())
def test_launch_and_plan_reckon_with_one_price(kind):
    hourly, said = cost(ROOT, NAMES.get(kind, kind), 16, "on-demand")
    assert float(hourly) == pytest.approx(16 * prices()[kind]) and said.startswith(f"${hourly} an hour (16 x ")


@pytest.mark.parametrize("kind, price", [("v2", 1.125), ("v3", 2.00), ("L4", 0.71), ("A100", 3.67)])
def test_what_no_plan_is_made_for_has_a_price_too(kind, price):
    assert cost(ROOT, kind, 8, "on-demand")[0] == f"{8 * price:.2f}"


@pytest.mark.parametrize(
    "kind, capacity, hourly, said",
    [
        ("v5litepod", "on-demand", "4.80", f"$4.80 an hour (4 x $1.20, {TABLE})"),
        ("v5litepod", "spot", "2.00", f"$2.00 an hour (4 x $0.5, {TABLE})"),
        ("v6e", "spot", "10.80", f"at most $10.80 an hour (4 x $2.70, {TABLE})"),
        ("v5p", "on-demand", "none", f"an unknown price (v5p is not in {TABLE})"),
        ("v4", "on-demand", "none", f"an unknown price (v4 is not in {TABLE})"),
    ],
)
def test_a_price_of_spot_machines_is_used_where_it_is_written_down(tmp_path, kind, capacity, hourly, said):
    (tmp_path / TABLE).parent.mkdir(parents=True)
    (tmp_path / TABLE).write_text(TABLE_OF_SPOT)
    assert cost(tmp_path, kind, 4, capacity) == [hourly, said]
