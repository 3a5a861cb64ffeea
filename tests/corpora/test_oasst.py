"""What the reader of OpenAssistant's trees makes of their forms."""

from __future__ import annotations

from typing import Any

import pytest

from tests.corpora.turns_said import A, U


def node(name: str, text: str, rank: int | None = None, replies: tuple = (), **more: Any) -> dict[str, Any]:
    role = "assistant" if name.count(".") % 2 else "prompter"
    return {
        "message_id": name,
        "text": text,
        "role": role,
        "rank": rank,
        "lang": "en",
        "replies": list(replies),
        **more,
    }


TREE = node(
    "r",
    "q",
    replies=(
        node("r.0", "unranked", None),
        node("r.1", "second", 1, (node("r.1.0", "why?", replies=(node("r.1.0.0", "so", 0),)),)),
        node("r.2", "best", 0, (node("r.2.0", "ok"),)),
        node("r.3", "gone", -1, deleted=True, replies=(node("r.3.0", "too"),)),
    ),
)


def flat(message: dict[str, Any], parent: str | None = None) -> list[dict[str, Any]]:
    row = {key: value for key, value in message.items() if key != "replies"}
    below = [row for reply in message["replies"] for row in flat(reply, message["message_id"])]
    return [{**row, "parent_id": parent, "message_tree_id": "r"}, *below]


ALL = [
    [(U, "q"), (A, "unranked")],
    [(U, "q"), (A, "second"), (U, "why?"), (A, "so")],
    [(U, "q"), (A, "best"), (U, "ok")],
]


@pytest.mark.parametrize("form", ["tree", "nested", "flat", "flat, out of order"])
def test_oasst_in_all_its_forms(import_files, form: str):
    other = {**node("z", "hola", lang="es", replies=(node("z.0", "buenas", 0),))}
    rows = {"tree": [{"message_tree_id": "r", "prompt": TREE}], "nested": [TREE], "flat": flat(TREE)}
    rows["flat, out of order"] = flat(TREE)[::-1]
    best = import_files("oasst", {"o.jsonl": [*rows[form], other]}, language="EN")
    assert best.turns == [ALL[2]]
    assert best.conversations[0].id == "r" and best.conversations[0].meta["lang"] == "en"
    assert "begins in es, not EN" in {row["reason"] for row in best.dropped}
    made = import_files("oasst", {"o.jsonl": rows[form]}, paths="all")
    assert sorted(map(str, made.turns)) == sorted(map(str, ALL))
    assert len({c.id for c in made.conversations}) == 3
    if form.startswith("flat"):
        assert best.counts == (3, 0, 7) and made.counts == (7, 0, 2)
        assert {row["reason"] for row in made.dropped} == {"deleted", "below a deleted message"}
    kept = import_files("oasst", {"o.jsonl": rows[form]}, deleted="keep")
    assert kept.turns == [[(U, "q"), (A, "gone"), (U, "too")]]


def test_oasst_what_is_no_tree(import_files):
    row = flat(node("a", "q", replies=(node("a.0", "b", 0),)))
    lost = {**row[1], "message_id": "lost", "parent_id": "nowhere"}
    ring = [{**row[1], "message_id": name, "parent_id": parent} for name, parent in (("x", "y"), ("y", "x"))]
    bad = [
        {"message_id": 3},
        {**row[0], "role": "king"},
        {"prompt": {"message_id": "p", "text": "alone", "role": "prompter"}},
    ]
    made = import_files("oasst", {"o.jsonl": [*row, lost, *ring, *bad]})
    assert made.turns == [[(U, "q"), (A, "b")]] and made.counts == (2, 5, 1)
    reasons = " | ".join(row["reason"] for row in made.rejected)
    for part in ("not in the input", "replies to itself", "without `message_id`", "role 'king'"):
        assert part in reasons
