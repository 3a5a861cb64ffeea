"""Stack Exchange's dumps: `Posts.xml`, where a `<row>` is a question (PostTypeId 1), an answer (2) or something else,
and if wanted `Comments.xml`, in which the asker and the answerer talk on.

A row is a `<row>` of either file. Answers stand far behind their questions: they are brought together by a sort on the
disk, so that memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, ClassVar, Literal, NamedTuple

from jaxchat.chat.conversation import Conversation
from jaxchat.corpora import Reader
from jaxchat.corpora.grouping import grouped
from jaxchat.corpora.html_markdown import to_markdown
from jaxchat.corpora.ledger import Dropped, Found, Ledger, Rejected
from jaxchat.corpora.rows import Row, Source
from jaxchat.corpora.turns import messages_of
from jaxchat.corpora.xml_rows import xml_rows

QUESTION, ANSWER = "1", "2"


class Post(NamedTuple):
    """A row of Posts.xml or Comments.xml, which stays with it to be given its fate."""

    kind: str  # "question", "answer", "comment"
    id: int
    file: str
    position: int
    row: dict[str, str]

    @property
    def score(self) -> int:
        return _number(self.row, "Score") or 0

    def dropped(self, reason: str) -> Dropped:
        return Dropped(self.file, self.position, reason, self.row)

    def rejected(self, reason: str) -> Rejected:
        return Rejected(self.file, self.position, reason, self.row)


@dataclass(frozen=True)
class Stackexchange(Reader):
    """Questions and their answers. The question is the user's, its title first; the answer is the assistant's."""

    suffixes: ClassVar[tuple[str, ...]] = (".xml",)

    answers: Literal["accepted", "accepted-only", "highest", "all"] = "accepted"
    """The answer that is taken: the accepted one (where there is none, the one with the highest score), only an
    accepted one, the one with the highest score, or each in a conversation of its own."""
    min_score: int | None = 0
    """Questions and answers that score less are dropped; none: any score will do."""
    comments: Literal["none", "thread"] = "none"
    """thread: what asker and answerer say in comments on the answer goes on with the conversation."""
    title: bool = True
    """The question's title stands before its text, with a blank line between."""
    html: Literal["markdown", "keep"] = "markdown"
    """Posts are HTML, which is made Markdown, with code blocks kept, or left as it is."""

    @property
    def wanted(self) -> str:
        return "Posts.xml"

    def fits(self, file: PurePath) -> bool:
        return Source(Path(file), "").file_name in ("posts.xml", "comments.xml")

    def read(self, files: Sequence[Source], ledger: Ledger) -> Iterator[Found | Rejected]:
        for key, group in grouped(self._by_question(files, ledger)):
            if key < 0:
                for kind, *rest in group:
                    yield Dropped(*rest) if kind == "dropped" else Rejected(*rest)
            else:
                yield from self._thread(key, [Post(*post) for post in group])

    def _by_question(self, files: Sequence[Source], ledger: Ledger) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Posts by the number of their question; -1: rows whose fate is known."""
        rows = _rows(files, ledger)
        if self.comments == "none":
            for key, item in rows:
                if item[0] == "comment":
                    yield -1, ("dropped", *item[2:4], "comments are left out", item[4])
                else:
                    yield _question(key, item), item
            return
        for key, group in grouped(rows):  # a comment names its post, and only that its question
            question = -1
            comments = []
            for item in group:
                if item[0] == "comment":
                    comments.append(item)
                else:
                    question = _question(key, item)
                    yield question, item
            for item in comments:
                if question < 0:
                    yield -1, ("rejected", *item[2:4], "its post is not in the input", item[4])
                else:
                    yield question, item

    def _thread(self, number: int, posts: list[Post]) -> Iterator[Found | Rejected]:
        questions = [post for post in posts if post.kind == "question"]
        answers = [post for post in posts if post.kind == "answer"]
        comments = [post for post in posts if post.kind == "comment"]
        for again in questions[1:]:
            yield again.rejected(f"another question has the same id ({number})")
        if not questions:
            for post in [*answers, *comments]:
                yield post.rejected(f"its question is not in the input ({number})")
            return
        question = questions[0]
        asked = self._asked(question)
        usable: list[tuple[Post, str]] = []
        for answer in answers:
            text = self._text(answer.row.get("Body", ""))
            if not text.strip():
                yield answer.rejected("no text")
            elif not self._scores(answer):
                yield answer.dropped(f"its score is below {self.min_score}")
            else:
                usable.append((answer, text))
        why = (
            "no text" if not asked.strip() else "" if self._scores(question) else f"its score is below {self.min_score}"
        )
        chosen = [] if why else self._chosen(question, usable)
        if not chosen:
            yield question.rejected(why) if why == "no text" else question.dropped(why or self._unanswered)
        used: set[int] = set()
        for answer, text in chosen:
            talk = [comment for comment in comments if self._goes_on(comment, question, answer)]
            talk.sort(key=lambda comment: (comment.row.get("CreationDate", ""), comment.id))
            turns = [(False, asked), (True, text)]
            turns += [
                (comment.row.get("UserId") == answer.row.get("OwnerUserId"), comment.row["Text"]) for comment in talk
            ]
            rows: dict[str, list[int]] = {}
            for post in (question, answer, *talk):
                rows.setdefault(post.file, []).append(post.position)
            used.update(map(id, talk))
            name = f"{number}" if len(chosen) == 1 else f"{number}:{answer.id}"
            messages = messages_of(turns, "merge", "blank-line")
            meta = _meta(question, answer) | ({"group": f"stackexchange {number}"} if len(chosen) > 1 else {})
            yield Found(Conversation(name, messages, source="stackexchange", meta=meta), rows)
        taken = {id(answer) for answer, _ in chosen}
        for answer, _ in usable:
            if id(answer) not in taken:
                yield answer.dropped("its question is left out" if not chosen else "another answer was taken")
        for comment in comments:
            if id(comment) not in used:
                yield comment.dropped("no comment of asker or answerer on an answer that was taken")

    @property
    def _unanswered(self) -> str:
        return "no accepted answer" if self.answers == "accepted-only" else "no answer"

    def _chosen(self, question: Post, answers: list[tuple[Post, str]]) -> list[tuple[Post, str]]:
        if self.answers == "all" or not answers:
            return answers
        accepted = _number(question.row, "AcceptedAnswerId")
        if self.answers != "highest":
            for answer in answers:
                if answer[0].id == accepted:
                    return [answer]
        return [] if self.answers == "accepted-only" else [max(answers, key=lambda answer: answer[0].score)]

    def _scores(self, post: Post) -> bool:
        return self.min_score is None or post.score >= self.min_score

    def _asked(self, question: Post) -> str:
        title, text = question.row.get("Title", ""), self._text(question.row.get("Body", ""))
        if not self.title or not title.strip():
            return text
        return f"{title}\n\n{text}" if text.strip() else title

    def _text(self, body: str) -> str:
        return to_markdown(body) if self.html == "markdown" else body

    def _goes_on(self, comment: Post, question: Post, answer: Post) -> bool:
        user = comment.row.get("UserId")
        return (
            _number(comment.row, "PostId") == answer.id
            and user is not None
            and user in (question.row.get("OwnerUserId"), answer.row.get("OwnerUserId"))
            and bool(comment.row.get("Text", "").strip())
        )


def _question(key: int, item: tuple[Any, ...]) -> int:
    """The question's number, of a question or an answer; rows whose fate is known keep their key."""
    return int(item[4]["ParentId"]) if item[0] == "answer" else key


def _rows(files: Sequence[Source], ledger: Ledger) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Posts and comments by the number of the post (a comment's: that it is on); -1: rows whose fate is known."""
    for source in files:
        for row in xml_rows(source, ledger):
            if isinstance(row, Rejected):
                yield -1, ("rejected", row.file, row.position, row.reason, row.row)
                continue
            kind, reason = _kind(row)
            if reason:
                fate = "rejected" if not kind else "dropped"
                yield -1, (fate, row.file, row.position, reason, row.value)
            else:
                name = _number(row.value, "Id") or 0
                key = (_number(row.value, "PostId") or 0) if kind == "comment" else name
                yield key, (kind, name, row.file, row.position, row.value)


def _kind(row: Row) -> tuple[str, str]:
    """(what a row is, why it is of no use)."""
    value: dict[str, str] = row.value
    if "PostId" in value and "Text" in value:
        missing = next((name for name in ("Id", "PostId") if _number(value, name) is None), "")
        return ("", f"its {missing} is no number") if missing else ("comment", "")
    kind = value.get("PostTypeId")
    if kind is None:
        return ("other", f"a row of <{row.key}>") if row.key not in ("posts", "comments") else ("", "no PostTypeId")
    if _number(value, "Id") is None:
        return "", "its Id is no number"
    if kind == QUESTION:
        return "question", ""
    if kind != ANSWER:
        return "other", f"neither question nor answer (PostTypeId {kind})"
    if _number(value, "ParentId") is None:
        return "", "its ParentId is no number"
    return "answer", ""


def _number(row: dict[str, str], name: str) -> int | None:
    text = row.get(name, "")
    digits = text.removeprefix("-") if name == "Score" else text
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def _meta(question: Post, answer: Post) -> dict[str, Any]:
    tags = question.row.get("Tags", "").replace("><", "|").strip("<>|")
    meta: dict[str, Any] = {"answer": answer.id, "score": answer.score, "question_score": question.score}
    if tags:
        meta["tags"] = tags.split("|")
    if license := answer.row.get("ContentLicense"):
        meta["license"] = license
    return meta
