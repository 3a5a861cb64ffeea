"""Stack Exchange's XML: rows apart, declarations refused, HTML made Markdown, questions with their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxchat.chat.conversation import read_conversations
from jaxchat.corpora import rows as rows_module
from jaxchat.corpora.html_markdown import to_markdown
from jaxchat.corpora.importing import import_corpus
from jaxchat.corpora.ledger import Ledger, Rejected
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.xml_rows import xml_rows
from jaxchat.errors import InputError


def row(**attributes: Any) -> str:
    return "  <row " + " ".join(f"{name}={quoteattr(str(value))}" for name, value in attributes.items()) + " />"


def xml(holder: str, *rows: str) -> str:
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<{holder}>\n' + "\n".join(rows) + f"\n</{holder}>"


def read(folder: Path, content: str | bytes) -> tuple[list[tuple[int, Any]], list[Rejected]]:
    file = folder / "a.xml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    items = list(xml_rows(Source(file, "a.xml"), Ledger()))
    good = [(item.position, item.value) for item in items if isinstance(item, Row)]
    return good, [item for item in items if isinstance(item, Rejected)]


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="￾￿"))),
    chunk=st.integers(1, 50),
)
def test_rows_are_read_whatever_the_chunk(texts: list[str], chunk: int, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "CHUNK", chunk)
        good, bad = read(
            tmp_path_factory.mktemp("xml"), xml("posts", *(row(Id=i, T=text) for i, text in enumerate(texts)))
        )
    assert not bad and [value["T"] for _, value in good] == texts


@pytest.mark.parametrize("chunk", [1, 9, 1 << 20])
def test_broken_rows_are_rejected_alone(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows_module, "CHUNK", chunk)
    content = b"""<posts><!-- a <comment --><row Id="1"/>
      <row Id="2" Id="3"/> <row Id="4" Body="never closed /> <row Id='5' Body='a > b'></row> stray
      <row Id="6" Body="&nothing;"/><row Id="7" Body="caf\xe9"/><row Id="8" Body="&#x1;"/><row Id="9"/></posts>"""
    good, bad = read(tmp_path, content)
    assert good == [(1, {"Id": "1"}), (4, {"Id": "5", "Body": "a > b"}), (9, {"Id": "9"})]
    assert {item.position: item.reason.split(",")[0] for item in bad} == {
        2: "not XML: duplicate attribute",
        3: "not XML: a row that is not closed",
        5: "not a row",
        6: "not XML: undefined entity",
        7: "a byte that is not of the file's encoding",
        8: "not XML: reference to invalid character number",
    }


BOMB = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE posts [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    "declaration", [BOMB, FILE, '<!DOCTYPE posts SYSTEM "http://example.org/a.dtd">', '<!ENTITY a "b">']
)
@pytest.mark.parametrize("place", ["before", "inside"])
def test_declarations_are_refused(tmp_path: Path, declaration: str, place: str):
    rows = row(Id=1, PostTypeId=1, Title="&b;", Body="&x;").replace("&amp;", "&")
    text = f"<posts>{rows}</posts>"
    text = f'<?xml version="1.0"?>{declaration}{text}' if place == "before" else text.replace("</posts>", declaration)
    (tmp_path / "Posts.xml").write_text(text)
    with pytest.raises(InputError, match="document type declaration"):
        import_corpus("stackexchange", [tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_encodings_are_those_declared_or_refused(tmp_path: Path):
    latin = '<?xml version="1.0" encoding="ISO-8859-1"?><posts><row Id="caf\xe9"/></posts>'.encode("iso-8859-1")
    assert read(tmp_path, latin)[0] == [(1, {"Id": "café"})]
    for content, match in (
        (b'<?xml version="1.0" encoding="utf-7"?><posts/>', "encoded as utf-7"),
        (b"Id,Body", "is not XML"),
    ):
        with pytest.raises(InputError, match=match):
            read(tmp_path, content)


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        (
            "<p>One <em>two </em><strong>three</strong>.</p>\n\n<p>a_b &lt; $x_1$</p>",
            "One *two* **three**.\n\na_b < $x_1$",
        ),
        (
            '<pre class="lang-py s"><code>def f():\n    return "`" &lt; 1\n</code></pre>',
            '```py\ndef f():\n    return "`" < 1\n```',
        ),
        ("<pre><code>```\nx\n```</code></pre>", "````\n```\nx\n```\n````"),
        ("<p>use <code>a`b</code> or <code>`</code></p>", "use ``a`b`` or `` ` ``"),
        (
            '<p><a href="http://x.org">site</a> <a href="http://x.org">http://x.org</a></p>',
            "[site](http://x.org) http://x.org",
        ),
        ("<ul><li>one</li><li>two<ol><li>in</li></ol></li></ul>", "- one\n- two\n  1. in"),
        ("<ol start='3'><li><p>a</p><p>b</p></li><li>c</li></ol>", "3. a\n\n   b\n\n4. c"),
        ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
        ("<h2>Title</h2><hr>x<br>y<script>z()</script><!-- c -->", "## Title\n\n---\n\nx\ny"),
        ("<table><tr><th>a</th><th>b|c</th></tr><tr><td>1</td></tr></table>", "| a | b\\|c |\n| --- | --- |\n| 1 |  |"),
        ('<p><img src="i.png" alt="pic"> x<sup>2</sup> <s>no</s></p>', "![pic](i.png) x<sup>2</sup> ~~no~~"),
        ("plain & simple", "plain & simple"),
        ("<p></p>", ""),
        ("<frameset>", ""),
        ("<p>open <b>never closed", "open **never closed**"),
    ],
)
def test_html_becomes_markdown(html: str, markdown: str):
    assert to_markdown(html) == markdown


def test_html_of_any_depth_is_read():
    deep = "<blockquote>" * 5000 + "down here" + "</blockquote>" * 5000
    assert "down here" in to_markdown(deep)
    assert "down here" in to_markdown("<b>" * 5000 + "down here")


POSTS = xml(
    "posts",
    row(
        Id=1,
        PostTypeId=1,
        AcceptedAnswerId=3,
        Score=5,
        Title="How?",
        Body="<p>Like so</p>",
        OwnerUserId=7,
        Tags="<a><b-c>",
    ),
    row(Id=2, PostTypeId=2, ParentId=1, Score=9, Body="<p>High</p>", OwnerUserId=8),
    row(Id=3, PostTypeId=2, ParentId=1, Score=2, Body="<p>Accepted</p>", OwnerUserId=9, ContentLicense="CC BY-SA 4.0"),
    row(Id=4, PostTypeId=2, ParentId=1, Score=-3, Body="<p>Bad</p>"),
    row(Id=5, PostTypeId=2, ParentId=99, Score=1, Body="<p>Lost</p>"),
    row(Id=6, PostTypeId=5, Body=""),
    row(Id=7, PostTypeId=1, Score=1, Title="Nobody?", Body="<p>knows</p>"),
    row(Id=8, PostTypeId=1, Score=1, Title="", Body=""),
    row(Id="x", PostTypeId=1),
    row(Id=9, PostTypeId=1, Score=1, Title="Two?", Body=""),
    row(Id=10, PostTypeId=2, ParentId=9, Score=1, Body="<p>low</p>"),
    row(Id=11, PostTypeId=2, ParentId=9, Score=4, Body="<p>best</p>"),
    row(Id=12, PostTypeId=2, ParentId=9, Score=4, Body=""),
)
COMMENTS = xml(
    "comments",
    row(Id=1, PostId=3, Text="By hand?", UserId=7, CreationDate="2020-01-02"),
    row(Id=2, PostId=3, Text="Yes.", UserId=9, CreationDate="2020-01-03"),
    row(Id=3, PostId=3, Text="Hi", UserId=4, CreationDate="2020-01-03"),
    row(Id=4, PostId=77, Text="Lost", UserId=4),
    row(Id=5, PostId=1, Text="On the question", UserId=7),
)


def imported(tmp_path: Path, **options: Any):
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    (folder / "Posts.xml").write_text(POSTS, encoding="utf-8")
    (folder / "Comments.xml").write_text(COMMENTS, encoding="utf-8")
    (folder / "Users.xml").write_text("<users/>")
    out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
    stats = import_corpus("stackexchange", [folder], out, options)
    items = {
        (row["file"], row["position"]): row["reason"]
        for name in ("rejected", "dropped")
        for row in map(json.loads, (out / f"{name}.jsonl").open())
    }
    talks = list(read_conversations(out))
    return {talk.id: [message.content for message in talk.messages] for talk in talks}, talks, items, stats


def test_questions_come_with_their_accepted_or_highest_answer(tmp_path: Path):
    texts, talks, fates, stats = imported(tmp_path)
    assert texts == {"1": ["How?\n\nLike so", "Accepted"], "9": ["Two?", "best"]}
    assert talks[0].meta["tags"] == ["a", "b-c"] and talks[0].meta["license"] == "CC BY-SA 4.0"
    assert {position: reason for (file, position), reason in fates.items() if file == "Posts.xml"} == {
        2: "another answer was taken",
        4: "its score is below 0",
        5: "its question is not in the input (99)",
        6: "neither question nor answer (PostTypeId 5)",
        7: "no answer",
        8: "no text",
        9: "its Id is no number",
        11: "another answer was taken",
        13: "no text",
    }
    assert (stats["rows_in"], stats["rows_used"], stats["rows_rejected"]) == (18, 4, 4)


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({"answers": "highest"}, {"1": "High", "9": "best"}),
        ({"answers": "accepted-only"}, {"1": "Accepted"}),
        (
            {"answers": "all", "min_score": "none"},
            {"1:2": "High", "1:3": "Accepted", "1:4": "Bad", "9:10": "low", "9:11": "best"},
        ),
        ({"min_score": 4}, {"1": "High"}),
        ({"html": "keep", "title": "no"}, {"1": "<p>Accepted</p>"}),
    ],
)
def test_options_choose_answers(tmp_path: Path, options: dict, answers: dict):
    texts, *_ = imported(tmp_path, **options)
    assert {name: contents[1] for name, contents in texts.items()} == answers


def test_asker_and_answerer_talk_on_in_comments(tmp_path: Path):
    texts, talks, fates, _ = imported(tmp_path, comments="thread")
    assert texts["1"] == ["How?\n\nLike so", "Accepted", "By hand?", "Yes."]
    assert [message.role for message in talks[0].messages] == ["user", "assistant"] * 2
    assert fates["Comments.xml", 4] == "its post is not in the input"
    assert {fates["Comments.xml", n] for n in (3, 5)} == {"no comment of asker or answerer on an answer that was taken"}


def test_in_the_wild(real_data: Path, tmp_path: Path):
    stats = import_corpus("stackexchange", [real_data / "formats" / "stackexchange"], tmp_path / "out")
    counts = tuple(stats[name] for name in ("rows_in", "rows_used", "rows_rejected", "rows_dropped"))
    assert (counts, stats["conversations"]) == ((5399, 1128, 0, 4271), 564)
    code = [
        message.content
        for talk in read_conversations(tmp_path / "out")
        for message in talk.messages
        if "\n```" in (message.content or "")
    ]
    assert len(code) > 20
