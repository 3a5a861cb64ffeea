"""The README's tree of the project names every file, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tree_names_the_files_that_are_there():
    tree = (ROOT / "README.md").read_text().split("## The project")[1].split("```")[1]
    named = {folder: set[str]() for folder in ("jaxchat", "configs", "tools")}
    inside = {0: ""}  # the folder that lines so far in stand in
    for line in tree.strip().splitlines():
        indent, entry = re.match(r"( *)(.*)", line).groups()
        here = inside[len(indent)]
        if folder := re.match(r"(\w+)/(?: |$)", entry):
            inside[len(indent) + 2] = f"{here}/{folder[1]}".lstrip("/")
            named.setdefault(inside[len(indent) + 2], set())
        else:
            named.setdefault(here, set()).update(re.match(r"(?:[\w.]+\.(?:py|sh)\s+)*", entry + " ")[0].split())
    for folder, files in named.items():
        here = {path.name for path in (ROOT / folder).glob("*.*") if path.suffix in (".py", ".sh")} - {"__init__.py"}
        told_in_a_line = not files and folder.count("/") > 1  # as a folder within a room may be
        assert files - {"__init__.py"} == here or told_in_a_line or folder in ("", "tests", "examples"), folder
