"""The verbs of the command line: each a dataclass of its arguments whose `run` imports the rooms it needs."""

from __future__ import annotations

from jaxchat.verbs.arena import ArenaExport, ArenaInvite, ArenaMake, ArenaResults, ArenaServe, ArenaSize
from jaxchat.verbs.data import DataAnnotate, DataClean, DataImport, DataPack, DataReport
from jaxchat.verbs.evals import Eval
from jaxchat.verbs.hub import HfExport, HfImport, HfVerify
from jaxchat.verbs.judge import Judge
from jaxchat.verbs.plan import Plan
from jaxchat.verbs.sample import Chat, Generate
from jaxchat.verbs.serve import NewKey, Serve
from jaxchat.verbs.tokenizer import TokenizerTrain
from jaxchat.verbs.train import Report, Train
from jaxchat.verbs.verb import Verb

VERBS: dict[str, type[Verb]] = {
    "data import": DataImport,
    "data clean": DataClean,
    "data annotate": DataAnnotate,
    "data report": DataReport,
    "data pack": DataPack,
    "tokenizer train": TokenizerTrain,
    "train": Train,
    "report": Report,
    "plan": Plan,
    "eval": Eval,
    "judge": Judge,
    "arena make": ArenaMake,
    "arena invite": ArenaInvite,
    "arena serve": ArenaServe,
    "arena results": ArenaResults,
    "arena export": ArenaExport,
    "arena size": ArenaSize,
    "generate": Generate,
    "chat": Chat,
    "serve": Serve,
    "key": NewKey,
    "hf import": HfImport,
    "hf export": HfExport,
    "hf verify": HfVerify,
}
