"""The README's tree of the project names every file, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_tree_names_the_files_that_are_there():
    tree = (ROOT / "README.md").read_text().split("## The project")[1].split("```")[1]
    named = {folder: set[str]() for folder in ("jaxchat", "configs", "tools")}
    folder = ""
    for line in tree.strip().splitlines():
        indent, entry = re.match(r"( *)(.*)", line).groups()
        if not indent:
            folder = entry.split("/")[0]
        elif len(indent) == 2 and (room := re.match(r"(\w+)/", entry)):
            folder = f"jaxchat/{room[1]}"
            named[folder] = set()
        elif len(indent) == 2 and folder.startswith("jaxchat"):
            folder = "jaxchat"
        files = re.match(r"(?:[\w.]+\.(?:py|sh)\s+)*", entry + " ")[0].split()
        named.setdefault(folder, set()).update(files)
    for folder, files in named.items():
        here = {path.name for path in (ROOT / folder).glob("*.*") if path.suffix in (".py", ".sh")} - {"__init__.py"}
        assert files - {"__init__.py"} == here or folder == "tests", folder
