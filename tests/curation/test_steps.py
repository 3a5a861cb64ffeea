"""Each step by itself: what it mends, what it drops, and what it leaves alone."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from jaxchat.chat.conversation import Conversation, Message, ToolCall
from jaxchat.curation.boilerplate import Boilerplate
from jaxchat.curation.entities import Entities
from jaxchat.curation.exact_duplicates import ExactDuplicates
from jaxchat.curation.length import Length
from jaxchat.curation.markup import Markup
from jaxchat.curation.personal_data import PersonalData
from jaxchat.curation.profanity import Profanity
from jaxchat.curation.repair import Repair
from jaxchat.curation.repetition import Repetition
from jaxchat.curation.step import Dropped, Kept, Step
from jaxchat.curation.white_space import WhiteSpace


def talk(*texts: str) -> Conversation:
    return Conversation("a", tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts)))


def mended(step: Step, text: str) -> str | None:
    ready = step.prepared()
    assert ready is not None
    outcome = ready.apply(talk(text))
    assert isinstance(outcome, Kept)
    assert outcome.conversation is not None
    return outcome.conversation.messages[0].content


def reason(step: Step, *texts: str) -> str | None:
    ready = step.prepared()
    assert ready is not None
    outcome = ready.apply(talk(*texts))
    return outcome.reason if isinstance(outcome, Dropped) else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("donâ€™t", "don’t"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("“quoted” ﬁne ｆｕｌｌ &amp;", "“quoted” ﬁne ｆｕｌｌ &amp;"),
        ("你好，世界 👩‍💻", "你好，世界 👩‍💻"),
        ("plain", "plain"),
    ],
)
def test_repair_undoes_mojibake_alone(text: str, expected: str) -> None:
    assert mended(Repair(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>One</p><p>Two &amp; <b>three</b></p>", "One\n\nTwo & **three**"),
        ('See <a href="https://x.org/a">this</a><br>now', "See [this](https://x.org/a)\nnow"),
        ("<ul><li>a</li><li>b</li></ul>", "- a\n- b"),
        ("<pre><code>if a &lt; b:\n    c</code></pre>", "```\nif a < b:\n    c\n```"),
        ("<script>alert(1)</script><p>text</p>", "text"),
        ("5 &lt; 6 &amp;&amp; x &gt; 2", "5 < 6 && x > 2"),
        ("[b]bold[/b] and a[i]", "bold and a[i]"),
        ("if a < b and b > c: use <name> or List<int>", "if a < b and b > c: use <name> or List<int>"),
        ("I <3 you & them", "I <3 you & them"),
        ("<b>Use</b> List<int> or <name>, x < y", "**Use** List<int> or <name>, x < y"),
        ("`<b>x</b>` is &lt;b&gt;", "`<b>x</b>` is <b>"),
        ("How do I make <b>bold</b> in HTML?", "How do I make <b>bold</b> in HTML?"),
        ("[link](https://x.org) and array[0]", "[link](https://x.org) and array[0]"),
        ("So:\n\n    a &lt; b\n\nand then a &lt; b", "So:\n\n    a &lt; b\n\nand then a < b"),
    ],
)
def test_markup_goes_and_what_looks_like_it_stays(text: str, expected: str) -> None:
    assert mended(Markup(), text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a  b\t c \r\n\r\n\n\n\n\nd\u00a0e ", "a b c\n\n\nd e"),
        ("zero\u200bwidth\ufeff and\u00ad soft", "zerowidth and soft"),
        ("e\u0301", "é"),
        ("👩\u200d💻 می\u200cخواهم", "👩\u200d💻 می\u200cخواهم"),
        ("```\na  =  1\n\tb\n```", "```\na  =  1\n\tb\n```"),
        ("    indented  code", "    indented  code"),
        ("\u3000\u3000你好\u3000世界", "你好 世界"),
        ("| a  | b  |\n| c  | d  |", "| a  | b  |\n| c  | d  |"),
    ],
)
def test_white_space_is_tidied_where_it_means_nothing(text: str, expected: str) -> None:
    assert mended(WhiteSpace(), text) == expected
    assert mended(WhiteSpace(), expected) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[deleted]", "a deleted turn"),
        ("[ Removed by Reddit ]", "a deleted turn"),
        ("<Media omitted>", "a deleted turn"),
        ("此消息已撤回", "a deleted turn"),
        ("Removed.", None),
        ("I have deleted the file.", None),
        ("https://x.org/a", "a turn of links only"),
        ("@you https://t.co/abc", "a turn of links only"),
        ("See https://x.org/a", None),
        ("I am a bot, and this action was performed automatically. Ask away.", "a turn written by a bot"),
        ("How do I write a bot?", None),
    ],
)
def test_boilerplate(text: str, why: str | None) -> None:
    assert reason(Boilerplate(), "Well?", text) == why


def test_a_bot_is_known_by_its_name() -> None:
    said = Message("user", "Please read the rules.", name="AutoModerator")
    outcome = Boilerplate().apply(Conversation("a", (said, Message("assistant", "I will."))))
    assert outcome == Dropped("a turn written by a bot", "message 0")


PROSE = (
    "The old harbour lies behind the market, and every morning boats come in with more fish than anyone can sell. " * 4
)


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (("Hi there, you", "Hello"), None),
        (("Hi there",), "no turn of the assistant"),
        (("Hi", "Yo"), "too few words"),
        (("你好吗", "我很好"), None),
        (("Hi there, you", "  "), "an empty turn"),
        (("Tell me", "a # b " * 60), "too many hash signs and ellipses"),
        (("Tell me", "1234 5678 " * 60), "too few words with a letter"),
        (("Tell me", "abcdefghijklmnopqrst " * 60), "words too short or too long"),
        (("Tell me", "\n".join(f"- item number {n} of all" for n in range(20))), "nearly all lines are bullet points"),
        (("Tell me", f"{PROSE}\n```\n{'# ' * 200}\n```"), None),
        (("Tell me", "    x = 1\n" + "a # b " * 60), "too many hash signs and ellipses"),
        (("Tell me", f"{PROSE} [here](https://x.org/{'a1' * 900})"), None),
        (("Tell me", "word " * 100_001), "too many words"),
    ],
)
def test_length(texts: tuple[str, ...], why: str | None) -> None:
    assert reason(Length(), *texts) == why


def test_a_call_of_a_tool_is_no_empty_turn() -> None:
    called = Message("assistant", None, tool_calls=(ToolCall("weather", {"city": "Oslo"}),))
    assert isinstance(Length().apply(Conversation("a", (Message("user", "Weather?"), called))), Kept)


NUMBERED = " ".join(f"word{n}" for n in range(200))
MATRIX = r"$$ \begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} $$ "


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (("Tell me", NUMBERED), None),
        (("Tell me", "yes", "ok", "yes", "ok", "yes", "ok", "yes"), None),
        (("Tell me", "one two three " * 40), "one phrase over and over in a turn"),
        (("Tell me", "a" * 200), "one character over and over"),
        (("Tell me", f"{NUMBERED} {NUMBERED}"), "phrases said again in a turn"),
        (("Tell me", f"    x = 1\n{NUMBERED} {NUMBERED}"), "phrases said again in a turn"),
        (("Tell me", f"{NUMBERED}\n{MATRIX * 40}"), None),
        (("Tell me", "It is $5 and that is $10, " * 20), "one phrase over and over in a turn"),
        (("Tell me", "\n".join(["a line of several words said twice", f"and {n}"][n % 2] for n in range(40))),
         "lines said again in a turn"),
        (("Tell me", "今天天气很好，" * 30), "one phrase over and over in a turn"),
        (("Do you know what time it is?", "I do not know that.") * 6, "turns said again and again"),
    ],
)  # fmt: skip
def test_repetition(texts: tuple[str, ...], why: str | None) -> None:
    assert reason(Repetition(), *texts) == why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("What the fuck is that", "a profane turn"),
        ("In Essex and Scunthorpe they cook with a wok, classically", None),
        ("I passed the assessment", None),
    ],
)
def test_profanity_is_whole_words(text: str, why: str | None) -> None:
    assert reason(Profanity(), "Well?", text) == why
    assert reason(Profanity(), text, "Well, well.") is None


def test_profanity_may_be_left_untrained() -> None:
    step = Profanity(act="untrain").prepared()
    assert step is not None
    outcome = step.apply(talk("Well?", "Oh shit", "What?", "Nothing"))
    assert isinstance(outcome, Kept)
    assert [message.train for message in outcome.conversation.messages] == [1, 0, 1, 1]


def test_entities_are_masked_or_dropped_by_a_recogniser(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_names")
    module.find = lambda text, language: [(i, i + 3, "PERSON") for i in range(len(text)) if text.startswith("Ann", i)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_names", module)
    assert Entities().prepared() is None
    mask = Entities(types=("PERSON",), recogniser="own_names:find")
    assert mended(mask, "Ann met Ann") == "<PERSON> met <PERSON>"
    assert mended(Entities(types=("GPE",), recogniser="own_names:find"), "Ann met Ann") == "Ann met Ann"
    assert reason(Entities(types=("PERSON",), act="drop", recogniser="own_names:find"), "Ann", "Hi") == "named entities"


def test_exact_duplicates_are_those_with_the_same_turns() -> None:
    key = ExactDuplicates().key
    assert key(talk("Hi  there", "Hello")) == key(talk("hi there ", "HELLO"))
    assert key(talk("Hi there", "Hello")) != key(talk("Hi", "there Hello"))
    system = Message("system", "Be brief.")
    other = Conversation("b", (system, *talk("Hi there", "Hello").messages))
    assert key(other) != key(talk("Hi there", "Hello"))
    assert ExactDuplicates(system=False).key(other) == key(talk("Hi there", "Hello"))
    call = Message("assistant", None, tool_calls=(ToolCall("f", {"x": 1}),))
    assert key(Conversation("c", (call,))) != key(
        Conversation("c", (Message("assistant", None, tool_calls=(ToolCall("f", {"x": 2}),)),))
    )


def test_what_has_nothing_to_mend_is_the_same_object() -> None:
    clean = talk("Hi there", "Hello, what can I do?")
    for step in (Repair(), Markup(), WhiteSpace(), PersonalData()):
        outcome = step.apply(clean)
        assert isinstance(outcome, Kept)
        assert outcome.conversation is clean


def test_entities_are_those_that_annotating_finds() -> None:
    pytest.importorskip("spacy")
    pytest.importorskip("jieba")
    mask = Entities(types=("PERSON", "GPE"))
    said = "Barack Obama was born in Hawaii in 1961, says <EMAIL>."
    assert mended(mask, said) == "<PERSON> was born in <GPE> in 1961, says <EMAIL>."
    ready = mask.prepared()
    assert ready is not None
    chinese = Conversation("a", (Message("user", "我叫李明，住在北京。"),), meta={"language": "zh", "chat": "李明"})
    outcome = ready.apply(chinese)
    assert isinstance(outcome, Kept) and outcome.counts == {"PERSON": 2, "GPE": 1}
    assert outcome.conversation.messages[0].content == "我叫<PERSON>，住在<GPE>。"
    assert outcome.conversation.meta == {"language": "zh", "chat": "<PERSON>"}
    french = Conversation("b", (Message("user", "Paul Dupont habite à Lyon."),), meta={"language": "fr"})
    assert ready.apply(french) == Kept(french, {"conversations not looked into (fr)": 1})
