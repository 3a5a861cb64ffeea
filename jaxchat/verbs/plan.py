"""Plans: what a run needs and how fast it can be, on machines that are not here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from jaxchat.errors import InputError
from jaxchat.verbs.verb import Made, Verb, some, with_field


@dataclass(frozen=True, kw_only=True)
class Plan(Verb):
    """Compile a run for machines that are not here, and say whether it fits, how fast it can be and what it costs.

    TOPOLOGY is a TPU slice (v5p:4x4x4; v4, v5e, v5p, v6e, tpu7x), several (2xv5e:16x16), or GPUs (h100:8; a100, h100,
    h200, b200). Needs no data and no weights. Every field of the config is a flag, as in `jaxchat train`.
    """

    usage = "CONFIG.py --on TOPOLOGY[,TOPOLOGY ...] [--field.path VALUE ...]"

    config: Positional[Annotated[Path, arg(metavar="CONFIG.py")]]
    """A Python file whose config() returns a jaxchat.run.Train."""
    on: Annotated[str, arg(metavar="TOPOLOGY,...")]
    """Where to run it; several, apart by commas."""
    rows_per_chip: int | None = None
    """Rows of a step for each chip, instead of the config's batch."""
    serve: FlagCreatePairsOff[bool] = False
    """Plan prefill and decode as well."""
    search: Annotated[int, arg(metavar="N")] = 0
    """Try other meshes, remat policies and batches too, and compile the N most promising."""
    prices: Annotated[Path | None, arg(metavar="FILE")] = None
    """A table of dollars a chip and hour (lines such as v5e = 1.20), instead of jaxchat's own."""
    page: Annotated[Path | None, arg(metavar="FILE.html")] = None
    """Also write a page with charts."""

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        file = next((word for word in argv if word.endswith(".py")), None)
        if file is None:
            return cls
        _keep_to_cpu()
        from jaxchat.config_file import load_config
        from jaxchat.run import Train

        return with_field(cls, "train", Annotated[Train, arg(name="")], load_config(file, Train))

    def run(self) -> Made:
        from jaxchat.config_file import load_config
        from jaxchat.files import replacing
        from jaxchat.plan.plan_page import page
        from jaxchat.plan.planning import plan, search
        from jaxchat.plan.prices import prices
        from jaxchat.plan.table import row, table
        from jaxchat.plan.topology import topology
        from jaxchat.run import Train
        from jaxchat.run.planned import planned

        config = getattr(self, "train", None) or load_config(self.config, Train)
        topologies = [topology(name) for name in some(tuple(filter(None, self.on.split(","))), "--on")]
        for one in topologies:
            one.check()
        if self.rows_per_chip is not None and self.rows_per_chip < 1:
            raise InputError(f"--rows-per-chip is {self.rows_per_chip}; set it to 1 or more")
        price = prices(self.prices)
        work = planned(config, serve=self.serve)
        made = list(plan(work, topologies, price, self.rows_per_chip))
        if self.search:
            for one in topologies:
                made += search(work, one, price, self.search)
            made.sort(key=lambda each: (not each.fits, -(each.tokens_per_second or 0)))
        data = [each.to_json() for each in made]
        lines = table(made)
        if self.page is not None:
            with replacing(self.page) as file:
                file.write(page(self.config.stem, work.model.parameters, data, [row(each) for each in made]))
            lines.append(f"charts in {self.page}")
        fit = sum(each.fits for each in made)
        lines.append(f"{self.config.stem}: {fit} of {len(made)} plans fit")
        return Made("\n".join(lines), data)


def _keep_to_cpu() -> None:
    """Before JAX is imported: nothing is computed, and no accelerator of this machine is to be taken."""
    from jaxchat.plan.topology import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ["JAX_PLATFORMS"] = "cpu"
