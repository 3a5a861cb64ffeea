from __future__ import annotations

from pathlib import Path

import pytest

from jaxchat.train.curve import draw_losses, running_mean


@pytest.mark.parametrize(
    "records",
    [
        [{"step": 0, "eval": {"loss": 4.0}}, {"step": 1, "loss": 3.5}, {"step": 2, "loss": 3.0}],
        [{"step": 1, "loss": 3.5}],
        [],
    ],
)
def test_draws_a_png(tmp_path: Path, records: list[dict]):
    draw_losses(records, tmp_path / "loss.png", title="a run")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_therunning_mean_is_unbiased():
    assert running_mean([2.0] * 50) == pytest.approx([2.0] * 50)
    assert running_mean([1.0, 3.0])[0] == pytest.approx(1.0)
