"""Plants altered copies, personal data and benchmark questions, cleans, and says how much of it was found.

    python tools/check_planted.py CORPUS.jsonl --questions DIR [--conversations 10000] [--copies 1000] [--items 1400]

CORPUS.jsonl holds conversations, or objects with `turns: [[speaker, text], ...]`; DIR is what `data clean
--decontaminate` takes, MT-bench's questions, say. Copies have 1 to 10 in 100 of their words or characters deleted,
replaced or added. A personal item counts as found where it is replaced and all around it is left as it was; false
positives are conversations full of figures that are nobody's, of which one is replaced. Exits 1 where a figure is
below what is promised: recall and precision of copies 0.95 and 0.99, recall of personal data 0.95 with less than 1 % of
false positives, every question found and nothing else.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import planted
from bench_curation import read

from jaxchat.chat.conversation import Conversation, Message, read_conversations
from jaxchat.curation.clean import clean
from jaxchat.curation.contamination import Contamination, read_references
from jaxchat.curation.identifiers import RECOGNISERS
from jaxchat.curation.personal_data import PersonalData
from jaxchat.curation.step import Kept
from jaxchat.curation.steps import STEPS, Cleaning

AROUND = ("{}", "Hello. {}", "{} Thank you!", "\n{}\n")


def write(conversations: Sequence[Conversation], folder: Path) -> Path:
    folder.mkdir()
    with open(folder / "conversations.jsonl", "w", encoding="utf-8") as file:
        file.writelines(json.dumps(one.to_json(), ensure_ascii=False) + "\n" for one in conversations)
    return folder


def near_duplicates(originals: Sequence[Conversation], copies: int, work: Path, workers: int = 1) -> dict[str, float]:
    """`recall`: of the copies, or their originals; `precision`: of what was dropped."""
    rng = random.Random(1)
    chosen = rng.sample(originals, copies)
    rows = [*originals]
    for n, one in enumerate(chosen):
        rows.append(planted.altered(one, rng.choice(range(1, 11)) / 100, rng, "word" if n % 2 else "character"))
    rng.shuffle(rows)
    only = [name for name in STEPS if name != "near-duplicates"]
    clean([write(rows, work / "copies")], work / "without", skip=only, workers=workers)
    kept = {one.id for one in read_conversations(work / "without")}
    found = sum(len({one.id, f"copy of {one.id}"} & kept) == 1 for one in chosen)
    return {"recall": found / copies, "precision": found / (len(rows) - len(kept))}


def personal_data(items: int, clean_conversations: int) -> dict[str, Any]:
    rng, step = random.Random(7), PersonalData()
    missed = []
    for n in range(items):
        kind = list(RECOGNISERS)[n % len(RECOGNISERS)]
        item, sentence = planted.personal(kind, rng), planted.SENTENCES[n % len(planted.SENTENCES)]
        counts: Counter[str] = Counter()
        masked = step.mask(sentence.format(item), counts)
        if not any(masked == sentence.format(f"<{found.upper()}>") for found in counts):
            missed.append((kind, item, masked))
    outcomes = [step.apply(one) for one in planted.nobodys(clean_conversations, rng)]
    wrong = [one for one in outcomes if not isinstance(one, Kept) or one.counts]
    return {
        "recall": 1 - len(missed) / items,
        "false_positives": len(wrong) / clean_conversations,
        "missed": missed[:20],
        "wrong": [dict(one.counts) for one in wrong[:10] if isinstance(one, Kept)],
    }


def contamination(originals: Sequence[Conversation], questions: Path, work: Path) -> dict[str, int]:
    """Every text of every question, each in a conversation of its own behind what was said there."""
    rng = random.Random(0)
    texts = list(itertools.chain.from_iterable(read_references(questions)))
    holding = [
        Conversation(f"planted {n}", (*one.messages, Message("user", rng.choice(AROUND).format(text)),
                                      Message("assistant", "Let me see ...")))
        for n, (one, text) in enumerate(zip(itertools.cycle(originals), texts))
    ]  # fmt: skip
    cleaning = Cleaning(contamination=Contamination((str(questions),)))
    only = [name for name in STEPS if name != "contamination"]
    clean([write([*originals, *holding], work / "holding")], work / "held", cleaning, skip=only, workers=1)
    kept = [one.id for one in read_conversations(work / "held")]
    left = sum(name.startswith("planted ") for name in kept)
    return {"planted": len(holding), "found": len(holding) - left, "others_dropped": len(originals) - len(kept) + left}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--questions", type=Path, required=True, metavar="DIR")
    parser.add_argument("--conversations", type=int, default=10_000)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--items", type=int, default=1400)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    originals = list(map(Conversation.from_json, itertools.islice(read(given.corpus), given.conversations)))
    with tempfile.TemporaryDirectory() as folder:
        copies = near_duplicates(originals, given.copies, Path(folder))
        print(f"{given.copies:,} copies among {len(originals):,} conversations: recall {copies['recall']:.4f}, "
              f"precision {copies['precision']:.4f}", flush=True)  # fmt: skip
        personal = personal_data(given.items, 2000)
        print(f"{given.items:,} personal items: recall {personal['recall']:.4f}; {personal['false_positives']:.2%} of "
              f"2,000 clean conversations touched", flush=True)  # fmt: skip
        for kind, item, masked in personal["missed"]:
            print(f"  missed {kind} {item!r}: {masked!r}")
        held = contamination(originals, given.questions, Path(folder))
        print(f"{held['planted']:,} texts of benchmark questions planted, {held['found']:,} found; "
              f"{held['others_dropped']:,} of {len(originals):,} other conversations dropped")  # fmt: skip
    if given.json:
        result = {"near_duplicates": copies, "personal_data": personal, "contamination": held}
        given.json.write_text(json.dumps(result, ensure_ascii=False, indent=2), encoding="utf-8")
    good = (
        copies["recall"] >= 0.95 and copies["precision"] >= 0.99 and personal["recall"] >= 0.95
        and personal["false_positives"] < 0.01 and held["found"] == held["planted"] and not held["others_dropped"]
    )  # fmt: skip
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
