"""What is said of answers, by hand-counted examples."""

from __future__ import annotations

import pytest

from jaxchat.evals.quality import Answer, malformed, quality


def told(*texts: str, reference: str = "", asked: str = "What did you do at the weekend?", reason: str = "stop"):
    return quality([Answer(text, asked, reference, len(text), reason) for text in texts])


def test_variety_and_repetition_are_shares_of_runs_of_words():
    found = told("a b a b", "a c")
    assert found["words"] == 3 and found["answers"] == 2
    assert found["distinct_1"] == pytest.approx(3 / 6)  # a, b, c of six words
    assert found["distinct_2"] == pytest.approx(3 / 4)  # ab, ba, ab; ac
    assert found["repetition"] == 0  # one run of four words
    assert told("x y z w x y z w")["repetition"] == pytest.approx(1 - 4 / 5)


def test_answers_that_are_all_the_same_are_alike():
    assert told(*["I like the sea and the sun a lot."] * 3)["self_bleu"] == pytest.approx(100)
    assert told("One two three four five.", "Six seven eight nine ten.")["self_bleu"] < 20
    assert told("alone")["self_bleu"] is None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "Sorry, I cannot do this.",
        "I am unable to say.",
        "As an AI language model, I have no weekend.",
        "很抱歉，我无法回答这个问题。",
        "作为一个人工智能，我没有周末。",
    ],
)
def test_who_declines_is_counted(text: str):
    assert told(text, "I went to the beach.")["refusals"] == 0.5


@pytest.mark.parametrize(
    "text", ["I'm sorry for your loss.", "I'm sorry to hear that.", "Sorry I'm late!", "我很高兴。"]
)
def test_who_only_pities_is_not(text: str):
    assert told(text)["refusals"] == 0


def test_forms_that_are_broken_are_counted():
    assert malformed("```python\nprint()") and not malformed("```python\nprint()\n```")
    assert malformed("Hello<|im_end|>") and malformed("Hi\nuser\nHello") and malformed("caf\ufffd")
    assert not malformed("the user's name is <b>")
    found = told("", "  ", "whole", reason="length")
    assert found["empty"] == pytest.approx(2 / 3) and found["cut"] == 1


def test_an_answer_in_another_language_is_noticed():
    pytest.importorskip("lingua")
    english, chinese = "I went to the beach with my sister and we swam.", "我和姐姐去了海滩，我们一起游泳，很开心。"
    assert told(english, chinese)["language_match"] == 0.5
    assert told("ok")["language_match"] is None


def test_nearness_to_the_answers_of_people():
    same = told("I went to the beach.", reference="I went to the beach.")
    assert same["bleu"] == pytest.approx(100) and same["chrf"] == pytest.approx(100)
    assert same["rouge_1"] == same["rouge_2"] == same["rouge_l"] == 1
    half = told("the cat sat", reference="the cat ran away")
    assert half["rouge_1"] == pytest.approx(2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4))
    assert half["rouge_2"] == pytest.approx(2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3))
    chinese = told("我去了海滩", reference="我去了海边")
    assert chinese["rouge_1"] == pytest.approx(4 / 5) and chinese["bleu"] > 50
    assert told("no reference")["bleu"] is None


def test_of_nothing_there_is_nothing_to_say():
    found = quality([])
    assert found.pop("answers") == 0 and not any(found.values())
