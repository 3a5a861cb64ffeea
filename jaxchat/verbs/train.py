"""Training, from a config file."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from jaxchat.distributed.guard import VARIABLE, run_guarded
from jaxchat.distributed.place import Distributed, find, flags
from jaxchat.files import resolve
from jaxchat.verbs.verb import Made, Verb, with_field


@dataclass(frozen=True, kw_only=True)
class Train(Verb):
    """Train a model as a config file says, or go on with a run that was stopped.

    The same command goes on where the newest checkpoint stands. SIGTERM or Ctrl-C saves first (exit 143 or 130); a loss
    that is not a number or jumps stops it unsaved (exit 2). `jaxchat train CONFIG.py --help` lists the config's
    fields, every one of which is a flag, with the values it has there.

    Several processes train as one where Slurm, Open MPI, Kubernetes or a TPU pod started them, or --distributed.* says
    so. When one is lost, all end within seconds, say why and exit with 75: the same command goes on.
    """

    usage = "CONFIG.py [--run DIR] [--field.path VALUE ...]"
    computes = True

    config: Positional[Annotated[Path, arg(metavar="CONFIG.py")]]
    """A Python file whose config() returns a jaxchat.run.Train."""
    run_folder: Annotated[Path | None, arg(name="run", metavar="DIR")] = None
    """The run's folder; runs/CONFIG otherwise."""
    sources: Annotated[tuple[Path, ...], arg(metavar="DIR ...")] = ()
    """Folders of conversations, or of rows that `data pack` made, to train on instead of the config's sources."""

    profile: Annotated[tuple[str, ...], arg(metavar="steps=FIRST:LAST|memory=STEP ...")] = ()
    """Steps to trace for xprof and TensorBoard, and steps after which to write down what lies on the devices; SIGUSR1
    asks for the latter at once."""
    print_flags: FlagCreatePairsOff[bool] = False
    """Print what XLA is told on each platform, and train nothing."""
    distributed: Distributed = dataclasses.field(default_factory=Distributed)

    @classmethod
    def prepare(cls, argv: Sequence[str]) -> int | None:
        options = flags(argv)
        place = None if VARIABLE in os.environ or {"-h", "--help"} & set(argv) else find(options, os.environ)
        if place is None:
            return super().prepare(argv)
        return run_guarded([sys.executable, *sys.orig_argv[1:]], place, options)

    @classmethod
    def parser(cls, argv: Sequence[str]) -> type[Verb]:
        from jaxchat.config_file import load_config

        file = next((word for word in argv if word.endswith(".py")), None)
        if file is None:
            return cls
        from jaxchat.run import Train

        return with_field(cls, "train", Annotated[Train, arg(name="")], load_config(file, Train))

    def run(self) -> Made:
        from jaxchat.compiled import drop_torn, keep_compiled
        from jaxchat.config_file import load_config
        from jaxchat.data.config import Folder, Packed
        from jaxchat.distributed.maintenance import heeded
        from jaxchat.distributed.member import joined
        from jaxchat.run import Train
        from jaxchat.run.config import length_by_flag
        from jaxchat.run.training import train
        from jaxchat.train.folder import COMPILED
        from jaxchat.train.profile import Profile

        config = load_config(self.config, Train)
        config = length_by_flag(config, getattr(self, "train", config))
        if self.print_flags:
            return _flags(config.xla)
        if self.sources:
            folders = [resolve(source) for source in self.sources]
            sources = tuple(Packed(path) if (path / "rows").is_dir() else Folder(path) for path in folders)
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=sources))
        profile = Profile.parse(self.profile)
        folder = self.run_folder or Path("runs") / self.config.stem
        with joined(find(self.distributed, os.environ), self.distributed) as first, heeded():
            if first:
                drop_torn(folder / COMPILED)
            keep_compiled(folder / COMPILED)
            ended = train(config, folder, profile)
        data = {**dataclasses.asdict(ended), "run": str(ended.run)}
        return Made(ended.line, data, exit_code=ended.exit_code, speaks=first)


@dataclass(frozen=True, kw_only=True)
class Report(Verb):
    """Show a run on one page that can be sent to someone: curves, answers, data, config, evaluations.

    RUN/report.html, written when a run ends as well, is one file that needs nothing else. It shows a run that goes on
    as far as it has come, and what `jaxchat eval --out RUN/evals/NAME.json` found.
    """

    usage = "RUN [--out FILE.html]"

    folder: Positional[Annotated[Path, arg(metavar="RUN")]]
    """A run's folder."""
    out: Annotated[Path | None, arg(metavar="FILE.html")] = None
    """The file to write; RUN/report.html otherwise."""

    def run(self) -> Made:
        from jaxchat.run.report import PAGE, write_report

        found = write_report(self.folder, self.out)
        place = self.out or self.folder / PAGE
        return Made(f"{found.step:,} of {found.of_steps:,} steps in {place}", {**found.to_json(), "report": str(place)})


def _flags(more: tuple[str, ...]) -> Made:
    """What XLA is told on each platform."""
    from jaxchat.xla_flags import FLAGS, flags

    told = {platform: flags(platform, more) for platform in FLAGS}
    lines = [
        f"{platform}: {' '.join(f'--{name}={str(value).lower()}' for name, value in each.items()) or 'nothing'}"
        for platform, each in told.items()
    ]
    return Made("\n".join(lines), told)
