"""A config file that cannot be used is refused in a sentence that names the line."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from jaxchat.config_file import load_config
from jaxchat.errors import InputError


@dataclass(frozen=True)
class Recipe:
    eggs: int = 2
    flour: float = 0.5


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kitchen.py").write_text(
        "from dataclasses import dataclass\n"
        "@dataclass(frozen=True)\nclass Recipe:\n    eggs: int = 2\n    flour: float = 1\n"
    )
    monkeypatch.delitem(sys.modules, "kitchen", raising=False)

    def write(text: str) -> Path:
        (tmp_path / "cake.py").write_text(text)
        return Path(tmp_path.name) / "cake.py"

    monkeypatch.chdir(tmp_path.parent)
    yield write
    sys.modules.pop("kitchen", None)


def test_the_config_is_what_the_function_returns(write):
    path = write("from kitchen import Recipe\ndef config():\n    return Recipe(eggs=3)\n")
    before = list(sys.path)
    made = load_config(path, object)
    assert made.eggs == 3 and sys.path == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def config():\n    return Recipe(\n", r"cake.py, line 2: '\(' was never closed: return Recipe\("),
        ("import kitchn\n", r"cake.py, line 1: ModuleNotFoundError: No module named 'kitchn'"),
        ("x = 1\n", r"cake.py defines no function config\(\); write one that returns a Recipe"),
        ("def config():\n    x = 1\n    return x / 0\n", r"cake.py, line 3: ZeroDivisionError: division by zero"),
        ("def config():\n    return 5\n", r"cake.py: config\(\) returns a int; it must return a Recipe"),
        (
            "from kitchen import Recipe\ndef config():\n    return Recipe(egs=5)\n",
            r"cake.py, line 3: Recipe has no field egs; did you mean eggs\?",
        ),
        (
            "from dataclasses import replace\nfrom kitchen import Recipe\n"
            "def config():\n    return replace(Recipe(), sugar=1)\n",
            r"cake.py, line 4: Recipe has no field sugar; it has eggs, flour",
        ),
        ("from jaxchat.errors import InputError\nraise InputError('no eggs left')\n", r"^no eggs left$"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(write, text: str, sentence: str):
    with pytest.raises(InputError) as refusal:
        load_config(write(text), Recipe)
    assert re.search(sentence, str(refusal.value)), refusal.value
    assert "\n" not in str(refusal.value)


def test_a_missing_file_and_one_that_is_no_python_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere\.py: no such config file"):
        load_config(tmp_path / "nowhere.py", Recipe)
    (tmp_path / "config.yaml").write_text("eggs: 3")
    with pytest.raises(InputError, match=r"is no Python file; a config's name ends in \.py"):
        load_config(tmp_path / "config.yaml", Recipe)
