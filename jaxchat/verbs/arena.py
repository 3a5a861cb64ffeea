"""People judge models: studies made, served, and what came of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from jaxchat.errors import InputError
from jaxchat.verbs.answering import Answering, close, named
from jaxchat.verbs.sample import Sampled
from jaxchat.verbs.verb import Made, NewFolder, Verb, some

if TYPE_CHECKING:
    from jaxchat.evals.arena.items import Folder
    from jaxchat.evals.arena.making import Opening
    from jaxchat.evals.arena.store import Store
    from jaxchat.evals.arena.study import Study

StudyFolder = Positional[Annotated[Path, arg(metavar="STUDY")]]
OrNone = Annotated[Path | None, arg(metavar="FILE")]


@dataclass(frozen=True, kw_only=True)
class ArenaMake(Sampled):
    """Make a study: prompts, and every model's answer to each of them.

    The same command goes on where it was stopped. What raters are told, scales, practice items and attention checks of
    one's own stand in a file, --study; jaxchat/evals/arena/study.py shows one. Options win over it.
    """

    usage = "MODEL MODEL ... --prompts FILE|DIR --out STUDY"

    models: Positional[Annotated[tuple[str, ...], arg(metavar="MODEL ...")]]
    """Two or more runs (RUN@STEP for one checkpoint), Hugging Face folders, .gguf files, package:NAME/FILE, or .jsonl
    files of answers that were made elsewhere (`prompt` or `messages`, and `text`). NAME=MODEL gives one its name."""
    out: NewFolder
    """The study's folder, which must not be there."""
    prompts: Annotated[Path | None, arg(metavar="FILE|DIR")] = None
    """A folder of conversations (DIR/heldout of a packed one, say), .jsonl or .txt, a prompt a line; where all models
    are files of answers, otherwise what the first of them answers."""
    most: Annotated[int | None, arg(metavar="N")] = None
    """So many of the prompts, drawn by --seed."""
    live: FlagCreatePairsOff[bool] = False
    """Raters type the prompts, and the models answer them while the study is served."""
    study: OrNone = None
    """What the study is, in TOML or JSON."""
    kind: Literal["pairs", "scales"] | None = None
    """Two answers side by side, or one at a time on scales; pairs unless the study file says otherwise."""
    title: Annotated[str | None, arg(metavar="TEXT")] = None
    """What raters see above it all."""
    ratings: Annotated[int | None, arg(metavar="N")] = None
    """Of every item, each by another rater; 3 unless the study file says otherwise."""
    per_rater: Annotated[int | None, arg(metavar="N")] = None
    """Items of one rater at most; all otherwise, and 10 in a study that is live."""
    checks: Annotated[int, arg(metavar="N")] = 0
    """Attention checks that every rater gets, besides those of the study file."""
    template: Annotated[str | None, arg(metavar="NAME|FILE")] = None
    """A chat template that ships with jaxchat, or a Jinja file, instead of each model's own."""

    def run(self) -> Made:
        from jaxchat.evals.arena.making import make, read_answers, read_prompts, write
        from jaxchat.files import check_new_folder

        sources = named(some(self.models, "MODEL"))
        if len(sources) < 2:
            raise InputError("one model alone cannot be compared; name two or more")
        if self.most is not None and self.most < 1:
            raise InputError(f"--most is {self.most}; it must be 1 or more")
        study = self._study(sources)
        check_new_folder(self.out)
        files = {name: read_answers(Path(at)) for name, at in sources.items() if at.endswith(".jsonl")}
        if self.live:
            if self.prompts is not None or files:
                raise InputError("--live has no --prompts and no files of answers: raters ask, and models answer")
            write(study, [], [], self.out)
            return Made(f"a live study of {', '.join(sources)} in {self.out}; invite raters to it, and serve it",
                        {"study": str(self.out), "prompts": 0, "left_out": 0})  # fmt: skip
        if self.prompts is None and len(files) < len(sources):
            raise InputError("no --prompts are given; name a file or a folder of conversations, or take --live")
        prompts = read_prompts(self.prompts or Path(next(iter(sources.values()))), self.most, self.seed)
        sampling = self.sampling()
        answers = {name: files.get(name) or self._opening(name, at) for name, at in sources.items()}
        recipe = {"models": sources, "template": self.template, "weights": self.weights, "sampling": repr(sampling)}
        made, left_out = make(study, prompts, answers, self.out, recipe)
        beside = f", {left_out:,} left out" if left_out else ""
        return Made(f"a study of {len(sources)} models on {made:,} prompts{beside} in {self.out}",
                    {"study": str(self.out), "prompts": made, "left_out": left_out})  # fmt: skip

    def _study(self, sources: dict[str, str]) -> Study:
        from jaxchat.evals.arena.items import instructed_checks
        from jaxchat.evals.arena.study import read_study, study_of

        row = read_study(self.study) if self.study else {}
        for name in ("kind", "title", "ratings", "per_rater"):
            if getattr(self, name) is not None:
                row[name] = getattr(self, name)
        where = str(self.study or "this study")
        if self.checks < 0:
            raise InputError(f"--checks is {self.checks}; it must be 0 or more")
        first = study_of(row, where)
        more = instructed_checks(first.kind, self.checks, first.scales)
        row |= {"checks": [*row.get("checks", []), *more], "models": list(sources), "seed": self.seed}
        return study_of(row | {"live": sources if self.live else None}, where)

    def _opening(self, name: str, source: str) -> Opening:
        from jaxchat.evals.arena.generated import generating
        from jaxchat.hub.open import open_model
        from jaxchat.sample.generate import SLOTS

        def open_() -> Any:
            return open_model(source, label=f"opening {name}")

        return generating(
            name,
            open_,
            self.template,
            lambda opened, format: self.engine(opened, format.stop_ids, slots=SLOTS),
            self.sampling(),
        )


@dataclass(frozen=True, kw_only=True)
class ArenaInvite(Verb):
    """Invite raters: a link each, which is used once and shown once.

    Whoever opens a link first takes part, from that browser on, and may close it and come back. --renew makes a new
    link for a rater who lost the browser.
    """

    usage = "STUDY --raters N"

    study: StudyFolder
    """The study's folder; it may be served meanwhile."""
    raters: Annotated[int, arg(metavar="N")] = 0
    """So many, called rater-1 and so on."""
    name: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME")]] = ()
    """One of this name; repeats."""
    renew: UseAppendAction[Annotated[tuple[str, ...], arg(metavar="NAME")]] = ()
    """A new link for this rater; the old one is of no use any more; repeats."""
    url: str = "http://127.0.0.1:8001"
    """Where raters reach the study."""

    def run(self) -> Made:
        from jaxchat.evals.arena.items import open_folder
        from jaxchat.evals.arena.raters import fresh_names, invite, renew
        from jaxchat.evals.arena.store import Store

        if self.raters < 0 or not (self.raters or self.name or self.renew):
            raise InputError("nobody is invited; say --raters N, --name NAME or --renew NAME")
        store = Store(open_folder(self.study).ratings)
        try:
            tokens = invite(store, [*self.name, *fresh_names(store, self.raters)])
            tokens |= {name: renew(store, name) for name in self.renew}
        finally:
            store.close()
        links = {name: f"{self.url.rstrip('/')}/#{token}" for name, token in tokens.items()}
        for name, link in links.items():
            print(f"{name}  {link}")
        return Made(f"{len(links)} invitations to {self.study}, shown this once; their hashes are in it", links)


@dataclass(frozen=True, kw_only=True)
class ArenaServe(Answering):
    """Serve a study's page to the raters who are invited.

    Listens on this machine alone unless --host says otherwise. A rating that was answered is on the disk, whatever
    happens then.
    """

    usage = "STUDY"

    study: StudyFolder
    """The study's folder."""
    host: str = "127.0.0.1"
    """Where to listen: 0.0.0.0 is everywhere."""
    port: int = 8001
    """0 is any that is free."""
    certificate: OrNone = None
    """For TLS: the certificate, PEM, with those that vouch for it."""
    private_key: OrNone = None
    """For TLS: its key, PEM."""
    max_tokens: int = 512
    """Of a live answer at most."""
    context: Annotated[int | None, arg(metavar="N")] = None
    """Of live models: tokens of a prompt and its answer at most."""
    slots: int = 4
    """Of live models: answers written at once."""

    def run(self) -> Made:
        try:
            from jaxchat.evals.arena.app import Arena, make_app
            from jaxchat.evals.arena.assign import Desk
            from jaxchat.evals.arena.items import open_folder
            from jaxchat.evals.arena.store import Store
            from jaxchat.serve.server import Address, serve
        except ModuleNotFoundError as error:
            raise InputError(f"the arena needs {error.name}; pip install 'jaxchat[arena]'") from None

        folder = open_folder(self.study)
        address = Address(self.host, self.port, self.certificate, self.private_key)
        address.bind().close()  # before the minutes that opening a model may take
        if not address.loopback and self.certificate is None:
            print(
                f"warning: {self.host} lets other machines in, and without --certificate whoever is between can read "
                "the links and the ratings",
                file=sys.stderr,
            )
        store = Store(folder.ratings)
        if not store.raters():
            print(f"nobody is invited yet: jaxchat arena invite {self.study} --raters N", file=sys.stderr)
        models = {
            name: self.served(name, at, slots=self.slots, context=self.context)
            for name, at in (folder.study.live or {}).items()
        }
        try:
            answer = None
            if models:
                from jaxchat.evals.arena.live import answering

                answer = answering(models, self.max_tokens)
            arena = Arena(Desk(folder, store), answer)
            serve(make_app(arena), arena, address, 5.0, lambda url: print(f"serving {self.study} on {url}", flush=True))
            count = store.read("SELECT COUNT(*) AS n FROM ratings")[0]["n"]
        finally:
            close(models.values())
            store.close()
        return Made(f"{count:,} ratings in {self.study}", {"ratings": count})


@dataclass(frozen=True, kw_only=True)
class ArenaResults(Verb):
    """Say what came of a study: win rates, Bradley-Terry and Elo, or means on scales, with 95 % intervals.

    results.json receives all of it, agreement between raters, how each of them worked, and how many ratings would show
    a difference too; results.html is a page to look at, with its plots as PNGs beside it.
    """

    usage = "STUDY [--out DIR]"

    study: StudyFolder
    """The study's folder; it may be served meanwhile."""
    out: Annotated[Path | None, arg(metavar="DIR")] = None
    """Where to write; results/ in the study's folder otherwise. Earlier results there are replaced."""
    without_flagged: FlagCreatePairsOff[bool] = False
    """Leave out raters who are flagged: for attention checks, agreement, speed or always the same."""
    difference: Annotated[float | None, arg(metavar="X")] = None
    """To be seen: of a win rate from 0.5, or in points of a scale; how many ratings that takes is said."""

    def run(self) -> Made:
        import json

        from jaxchat.evals.arena.items import open_folder
        from jaxchat.evals.arena.plots import draw
        from jaxchat.evals.arena.results import results
        from jaxchat.evals.arena.results_page import page
        from jaxchat.files import replacing

        folder = open_folder(self.study)
        store = _store(folder)
        try:
            found = results(folder, store, without_flagged=self.without_flagged, difference=self.difference)
        finally:
            store.close()
        out = self.out or self.study / "results"
        for name, text in (
            ("results.json", json.dumps(found, ensure_ascii=False, indent=2)),
            ("results.html", page(found)),
        ):
            with replacing(out / name) as file:
                file.write(text)
        draw(found, out)
        for name, row in found["models"].items():
            print(_line(name, row))
        count = found["ratings"]["counting"]
        return Made(f"results of {count:,} ratings in {out}, to look at in {out / 'results.html'}", found)


@dataclass(frozen=True, kw_only=True)
class ArenaExport(Verb):
    """Write what raters said for other programs.

    A row a rating, those that were changed later and those of practice and checks among them, each saying so; or
    conversations with a better and a worse ending, which `jaxchat data import preference` reads.
    """

    usage = "STUDY [--csv FILE] [--jsonl FILE] [--preference FILE]"

    study: StudyFolder
    """The study's folder; it may be served meanwhile."""
    csv: OrNone = None
    """Every rating, as CSV."""
    jsonl: OrNone = None
    """Every rating, as a line of JSON."""
    preference: OrNone = None
    """Of every item the answer that most raters preferred, and the other: what DPO trains on."""

    def run(self) -> Made:
        from jaxchat.evals.arena.export import as_csv, as_jsonl, preferences, rows
        from jaxchat.evals.arena.items import open_folder
        from jaxchat.evals.arena.judged import read_judged
        from jaxchat.files import replacing

        if not (self.csv or self.jsonl or self.preference):
            raise InputError("nothing is to be written; say --csv FILE, --jsonl FILE or --preference FILE")
        folder = open_folder(self.study)
        store = _store(folder)
        try:
            judged = read_judged(folder, store)
        finally:
            store.close()
        if not judged:
            raise InputError(f"{self.study} has no rating yet")
        preferred = preferences(folder.study, judged) if self.preference else []
        texts = {
            self.csv: lambda: as_csv(rows(folder.study, judged)),
            self.jsonl: lambda: as_jsonl(rows(folder.study, judged)),
            self.preference: lambda: as_jsonl(one.to_json() for one in preferred),
        }
        written = [path for path in texts if path is not None]
        for path in written:
            with replacing(path) as file:
                file.write(texts[path]())
        what = f"{len(judged):,} ratings" if self.csv or self.jsonl else ""
        pairs = f"{len(preferred):,} preferences" if self.preference else ""
        return Made(f"{' and '.join(filter(None, (what, pairs)))} in {', '.join(map(str, written))}",
                    {"ratings": len(judged), "preferences": len(preferred)})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ArenaSize(Verb):
    """Say how many comparisons a study needs to show a difference, before anybody rates."""

    usage = "--difference X"

    difference: Annotated[float, arg(metavar="X")] = 0.05
    """Of the better model's win rate from 0.5."""
    ties: Annotated[float, arg(metavar="X")] = 0.25
    """The share of ties and both bad that you expect."""
    design: Annotated[float, arg(metavar="X")] = 1.0
    """By how much raters and prompts that are alike swell the variance; `design_effect` of an earlier study."""
    power: Annotated[float, arg(metavar="X")] = 0.8
    """How likely the difference is to be seen, where it is there."""

    def run(self) -> Made:
        from jaxchat.evals.arena.sample_size import comparisons

        needed = comparisons(self.difference, ties=self.ties, design=self.design, power=self.power)
        return Made(
            f"{needed:,} comparisons of two models tell a win rate of {0.5 + self.difference:g} from 0.5",
            {"comparisons": needed, "difference": self.difference, "ties": self.ties, "design": self.design},
        )


def _store(folder: Folder) -> Store:
    try:
        import krippendorff  # noqa: F401
        import statsmodels  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"the arena needs {error.name}; pip install 'jaxchat[arena]'") from None
    from jaxchat.evals.arena.store import Store

    return Store(folder.ratings)


def _line(name: str, row: dict[str, Any]) -> str:
    if "elo" not in row:
        return f"{name}: {row['ratings']:,} ratings"
    if row["elo"] is None:
        return f"{name}: not compared yet"
    low, high = row["elo_interval"] or (row["elo"], row["elo"])
    return f"{name}: Elo {row['elo']:.0f} ({low:.0f} to {high:.0f}), win rate {row['win_rate']:.3f}"
