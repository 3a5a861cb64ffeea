"""The Chinese README says what the English one says: the same commands, code, names and figures' commands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"```([a-z]+)\n(.*?)```", re.DOTALL)


def blocks(text: str) -> list[tuple[str, str]]:
    """Code without the comments of commands, which are translated."""
    return [(kind, re.sub(r" +# .*", "", code) if kind == "bash" else code) for kind, code in BLOCK.findall(text)]


def spans(text: str) -> list[str]:
    """Inline code, outside of the tree of the project."""
    return sorted(set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))))


def test_the_commands_are_the_same():
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_nothing_that_is_named_is_missing():
    assert spans(CHINESE) == spans(ENGLISH)


def test_the_tables_have_the_same_rows_and_the_parts_the_same_order():
    rows, hers = (
        [line.count("|") for line in text.splitlines() if line.startswith("|")] for text in (ENGLISH, CHINESE)
    )
    assert rows == hers
    assert ENGLISH.count("\n## ") == CHINESE.count("\n## ")


def test_the_folders_are_the_same():
    def folders(text: str) -> list[str]:
        tree = text[: text.rindex("```")].rpartition("```\n")[2]
        return sorted({found.strip() for found in re.findall(r"^ {0,2}([\w.]+/)", tree, re.MULTILINE)})

    assert folders(CHINESE) == folders(ENGLISH)
