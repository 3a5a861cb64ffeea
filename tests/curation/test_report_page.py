"""The report's page in a browser: all of it can be seen, in a wide window and on a telephone."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections.abc import Callable
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import Conversation, Message

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
WIDTHS = (390, 1280)
# Measures the page inside frames of several widths and leaves the numbers in the document.
MEASURE = """<script>addEventListener("load", () => {
const found = [...document.querySelectorAll("iframe")].map(frame => {
  const page = frame.contentDocument, of = page.documentElement, all = q => [...page.querySelectorAll(q)];
  const seen = node => { const r = node.getBoundingClientRect(); return r.width > 0 && r.height > 0; };
  const inside = node => {
    const a = node.getBoundingClientRect(), b = node.closest(".card, .tile, main").getBoundingClientRect();
    return node.closest(".scroll") || (a.left >= b.left - 1 && a.right <= b.right + 1); };
  return {
    width: of.clientWidth, scrolled: of.scrollWidth, height: of.scrollHeight, headings: all("h2").map(h => h.innerText),
    unseen: all("h1, h2, h3, .card, .tile, .fill, .hist, td, summary").filter(n => !seen(n)).map(n => n.outerHTML),
    outside: all(".bars > *, .hist, table, pre, summary, h3").filter(n => !inside(n)).map(n => n.outerHTML),
    bars: all(".fill").length, columns: all(".hist div").filter(seen).length,
    font: parseFloat(page.defaultView.getComputedStyle(page.body).fontSize),
  };
});
document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
})</script>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], list[dict[str, Any]]]:
    """What a browser makes of a page in windows of WIDTHS."""

    def run(page: Path) -> list[dict[str, Any]]:
        if BROWSER is None:
            pytest.skip("no Chromium on PATH")
        text = escape(page.read_text(encoding="utf-8"), quote=True)
        frames = "".join(f'<iframe style="width:{width}px;height:900px" srcdoc="{text}"></iframe>' for width in WIDTHS)
        (tmp_path / "frames.html").write_text(f"<!doctype html><body>{frames}{MEASURE}", encoding="utf-8")
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        done = subprocess.run(
            [*command, profile, (tmp_path / "frames.html").as_uri()], capture_output=True, text=True, timeout=120
        )
        assert "FOUND" in done.stdout, done.stderr[-2000:]
        return json.loads(unescape(done.stdout.partition("FOUND")[2].partition("END")[0]))

    return run


def test_all_parts_of_a_cleaned_folder_can_be_seen(
    conversations: Callable[..., list[Conversation]], written: Callable[..., Path], browse: Any, tmp_path: Path
) -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("jieba")
    rng = random.Random(3)
    talks = conversations(40)
    told = [*talks[0].messages, Message("user", "Write to ann@example.com or call (415) 555-2671, says Barack Obama.")]
    copies = [Conversation(f"copy of {c.id}", (*c.messages[:-1], Message("assistant", c.messages[-1].content + " yes")))
              for c in rng.sample(talks, 6)]  # fmt: skip
    long = Conversation("long", (Message("user", "w" * 400), Message("assistant", "No.")))
    source = written([*talks, Conversation("told", tuple(told)), *copies, talks[5], long, "{not JSON"])
    out = tmp_path / "clean"
    assert main(["data", "clean", str(source), "--out", str(out), "--workers", "1"]) == 0
    assert main(["data", "annotate", str(out)]) == 0
    assert main(["data", "report", str(out)]) == 0
    wanted = ["Steps of cleaning", "Dropped, by reason", "Rejected, by reason", "Texts", "Sources and licences",
              "Duplicates", "Personal data replaced", "Annotations"]  # fmt: skip
    for width, found in zip(WIDTHS, browse(out / "report.html"), strict=True):
        assert found["headings"] == wanted
        assert not found["unseen"] and not found["outside"]
        assert found["scrolled"] <= found["width"] <= width  # nothing is to be pushed sideways
        assert found["bars"] > 30 and found["columns"] > 10 and found["font"] >= 14
