"""Models in other forms: converted, exported, compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from jaxchat.errors import InputError
from jaxchat.verbs.verb import Made, ModelName, NewFolder, Verb


@dataclass(frozen=True, kw_only=True)
class HfImport(Verb):
    """Fetch or convert a model into a Hugging Face folder, proven to compute the same.

    SRC is any MODEL: a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE, a run's folder. Interrupted,
    it leaves nothing under DIR's name, and the same command begins again; a download goes on.
    """

    usage = "SRC --out DIR"
    computes = True

    source: Positional[Annotated[str, arg(metavar="SRC")]]
    """The model to read."""
    dtype: Literal["float32", "bfloat16", "float16", "q8_0"] | None = None
    """Of the weights written (q8_0: in GGUF alone); otherwise that of the weights read."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Conversations to compare logits on, instead of a few short exchanges."""
    out: NewFolder
    """The new folder, which every verb takes as MODEL."""

    def run(self) -> Made:
        from jaxchat.hub.export import export

        made = export(self.source, self.out, dtype=self.dtype, data=self.data)
        proof = made.verification
        before, after = proof["perplexity"], proof["perplexity_after_rounding"]
        rounding = f"perplexity {before:.4f}, rounded to {proof['dtype']} {after:.4f} ({after / before - 1:+.3%}); "
        gguf = self.out.suffix == ".gguf"
        return Made(
            f"{made.source} as {'GGUF' if gguf else 'a Hugging Face folder'} in {self.out}: "
            f"{'' if proof['dtype'] == 'float32' else rounding}largest logit difference "
            f"{proof['max_logit_difference']:.2g} over {proof['tokens_compared']:,} tokens",
            {"file" if gguf else "folder": str(made.place), **proof},
        )


@dataclass(frozen=True, kw_only=True)
class HfExport(HfImport):
    """Write a model as a Hugging Face folder, or a GGUF file for llama.cpp and Ollama, proven to compute the same.

    DIR receives config.json, safetensors, tokenizer, chat template, generation_config.json, a model card and
    verification.json, the proof: what was written is read back and its logits compared with the model's. FILE.gguf
    holds all of that but the card; beside it are the proof, FILE.verification.json, and FILE.Modelfile, of which
    `ollama create NAME -f FILE.Modelfile` makes a model. A run that trained an adapter is
    written merged or, with --adapter-only, as an adapter that the peft library loads over its base.
    """

    usage = "MODEL --out DIR|FILE.gguf"

    source: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    adapter_only: FlagCreatePairsOff[bool] = False
    """Of a run that trained an adapter: the adapter alone, in PEFT's format; otherwise it is merged."""
    out: Annotated[Path, arg(metavar="DIR|FILE.gguf")]
    """The new folder, or the new file where its name ends in .gguf; every verb takes either as MODEL."""

    def run(self) -> Made:
        if not self.adapter_only:
            return super().run()
        from jaxchat.hub.export_adapter import export_adapter

        if self.dtype not in (None, "float32"):
            raise InputError(f"an adapter is saved in float32; leave out --dtype {self.dtype}, or --adapter-only")
        made = export_adapter(self.source, self.out, data=self.data)
        proof = made.verification
        return Made(
            f"the adapter of {made.source} in PEFT's format in {self.out}: largest logit difference "
            f"{proof['max_logit_difference']:.2g} over {proof['tokens_compared']:,} tokens",
            {"folder": str(made.place), **proof},
        )


@dataclass(frozen=True, kw_only=True)
class HfVerify(Verb):
    """Compare two models: their tensors, logits, configs, templates and tokenizers.

    Prints the largest difference in each tensor and in the logits. Exits 2 where the logits differ by more than
    --bound.
    """

    usage = "MODEL MODEL"
    computes = True

    first: ModelName
    """A run (RUN@STEP for one checkpoint), a Hugging Face folder or hub name, a .gguf file, package:NAME/FILE."""
    second: ModelName
    """What to compare it with."""
    bound: float = 1e-4
    """The largest difference of logits that is still the same model."""
    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Conversations to compare logits on, instead of a few short exchanges."""

    def run(self) -> Made:
        from jaxchat.hub.verify import table, verify

        found = verify(self.first, self.second, bound=self.bound, data=self.data)
        apart = f"logits differ by at most {found.logits.max_logit_difference:.3g}"
        if found.same:
            line = f"{self.first} and {self.second} are the same model: {apart}, within {self.bound:g}"
        else:
            line = f"{self.first} and {self.second} are not the same model: {apart}, above {self.bound:g}"
        return Made("\n".join([*table(found), line]), found.to_json(), exit_code=0 if found.same else 2)
