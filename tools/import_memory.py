"""Imports a synthetic Stack Exchange dump of any size and says what it took: memory, time, rows accounted for.

    python tools/import_memory.py --megabytes 2000 --limit 300

The dump is made row by row in a temporary folder: questions of several kinds of HTML, and far behind them their
answers. Exits 1 where the import's peak memory is above the limit (in MB) or a row is not accounted for.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from xml.sax.saxutils import quoteattr

WORDS = """the of a to in is state gate for that with qubit measure we can be matrix on as by this error circuit an it
phase are from or which one how not code vector if you operator unitary have has two basis at between using noise"""


def body(chance: random.Random, length: int) -> str:
    """Paragraphs, a list and code, `length` words of them or a little more."""
    words_known = WORDS.split()
    parts: list[str] = []
    words = 0
    while words < length:
        n = chance.randint(20, 80)
        text = " ".join(chance.choices(words_known, k=n))
        kind = chance.random()
        if kind < 0.1:
            parts.append(
                f'<pre class="lang-py"><code>for i in range({n}):\n    print("{text[:60]}" &lt; i)\n</code></pre>'
            )
        elif kind < 0.2:
            parts.append(f'<ul>\n<li>{text}</li>\n<li><a href="https://example.org/{n}">{text[:20]}</a></li>\n</ul>')
        else:
            parts.append(f"<p>{text} <em>{text[:15]}</em> <code>x_{n}</code></p>")
        words += n
    return "\n\n".join(parts)


def write_posts(path: Path, size: int) -> int:
    """Writes about `size` bytes of posts; returns their number. Answers stand a third of the file behind."""
    chance = random.Random(0)
    number = 0
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n')
        waiting: deque[int] = deque()
        while file.tell() < size:
            for _ in range(1000):
                number += 1
                if file.tell() > size / 3 and waiting and chance.random() < 0.65:
                    kind = f'PostTypeId="2" ParentId="{waiting.popleft()}"'
                else:
                    accepted = f' AcceptedAnswerId="{chance.randint(1, 2 * number)}"' if chance.random() < 0.5 else ""
                    kind = f'PostTypeId="1" Title="Question {number}" Tags="&lt;a&gt;&lt;b&gt;"{accepted}'
                    waiting.extend([number] * chance.choice((0, 1, 1, 2)))
                text = quoteattr(body(chance, chance.choice((60, 150, 400))))
                file.write(
                    f'  <row Id="{number}" {kind} Score="{chance.randint(-2, 30)}" Body={text} OwnerUserId="1" />\n'
                )
        file.write("</posts>\n")
    return number


def measure(megabytes: float) -> dict[str, float]:
    """Makes the dump, imports it in a process of its own, and returns what that took."""
    with tempfile.TemporaryDirectory() as folder:
        posts = Path(folder, "Posts.xml")
        rows = write_posts(posts, int(megabytes * 1e6))
        size = posts.stat().st_size
        out = Path(folder, "out")
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "jaxchat", "data", "import", "stackexchange", str(posts), "--out", str(out)],
            check=True,
        )
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # kilobytes; on a Mac, bytes
        stats = json.loads((out / "stats.json").read_text())
    return {
        "megabytes": size / 1e6,
        "rows": rows,
        "rows_in": stats["rows_in"],
        "rows_accounted_for": stats["rows_used"] + stats["rows_rejected"] + stats["rows_dropped"],
        "conversations": stats["conversations"],
        "seconds": seconds,
        "megabytes_per_second": size / 1e6 / seconds,
        "peak_megabytes": peak / (1e6 if sys.platform == "darwin" else 1e3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=2000, help="size of the dump (default 2000)")
    parser.add_argument("--limit", type=float, default=300, help="peak memory that is allowed, in MB (default 300)")
    arguments = parser.parse_args()
    found = measure(arguments.megabytes)
    print(json.dumps(found))
    whole = found["rows"] == found["rows_in"] == found["rows_accounted_for"]
    return 0 if whole and found["peak_megabytes"] < arguments.limit else 1


if __name__ == "__main__":
    sys.exit(main())
