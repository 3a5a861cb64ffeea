"""What can be said of answers without a judge: how long, how varied, how repetitive, in which language, in which form,
and how near to the answers that people gave. Every figure by its definition; none says that an answer is good.

- `distinct_1`, `distinct_2`: different words, and pairs of neighbours, as a share of all in all answers (Li et al.
  2016). It falls with the amount of text: compare it at the same number of answers.
- `repetition`: of an answer's runs of four words, the share that stood in it before, averaged over answers with at
  least four (seq-rep-4, Welleck et al. 2020).
- `self_bleu`: BLEU-4 of each answer against all the others, averaged, from 0 to 100 (Zhu et al. 2018); of at most
  SELF_BLEU answers. High where a model says the same to everyone.
- `refusals`: the share that begins by declining (REFUSALS, English and Chinese).
- `language_match`: the share in the language of the last user's message, of those where both can be told.
- `empty`, `cut`: shares with no text, and ended by the limit of tokens.
- `malformed`: the share with an open code fence, a leftover of a chat template, or a character that is none (U+FFFD).
- `bleu`, `chrf` (sacreBLEU's, of the corpus), `rouge_1`, `rouge_2`, `rouge_l` (F1, averaged): against the answers that
  the conversations have. Chinese is compared by characters.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from jaxchat.curation.words import has_unspaced, words
from jaxchat.errors import InputError

SELF_BLEU = 100
REFUSALS = re.compile(
    r"\W*(?:(?:i'?m|i am) (?:(?:very |so )?sorry|afraid),? (?:but )?(?:i (?:can|am|do not|don'?t)|as an)"
    r"|(?:sorry|apologies),? (?:but )?i (?:can|am)|i (?:cannot|can'?t|can not|am (?:unable|not able) to|won'?t) "
    r"|i'?m (?:unable|not able) to |as an ai\b"
    r"|(?:很|非常)?(?:抱歉|对不起|不好意思)[，,]?(?:但)?(?:我|作为)|我(?:无法|不能)|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)
_LEFTOVER = re.compile(
    r"<\|[\w ]+\|>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>|^(?:user|assistant)\s*$", re.MULTILINE
)


@dataclass(frozen=True)
class Answer:
    """An answer, what was asked last, the answer that the conversation has, and how the model's ended."""

    text: str
    asked: str
    reference: str
    tokens: int
    finish_reason: str


def quality(answers: Sequence[Answer]) -> dict[str, Any]:
    """The figures of some answers, as JSON; None for one that does not exist. Raises InputError where the packages that
    compare texts are not installed."""
    said = [words(answer.text.casefold()) for answer in answers]
    return {
        "answers": len(answers),
        "tokens": _mean(answer.tokens for answer in answers),
        "words": _mean(map(len, said)),
        "characters": _mean(len(answer.text) for answer in answers),
        "distinct_1": _distinct(said, 1),
        "distinct_2": _distinct(said, 2),
        "repetition": _mean(_repeated(each, 4) for each in said if len(each) >= 4),
        "self_bleu": _self_bleu([answer.text for answer in answers[:SELF_BLEU]]),
        "refusals": _mean(bool(REFUSALS.match(answer.text)) for answer in answers),
        "language_match": _language_match(answers),
        "empty": _mean(not answer.text.strip() for answer in answers),
        "cut": _mean(answer.finish_reason == "length" for answer in answers),
        "malformed": _mean(malformed(answer.text) for answer in answers),
        **_nearness([answer for answer in answers if answer.reference.strip()]),
    }


def malformed(text: str) -> bool:
    return text.count("```") % 2 == 1 or "\ufffd" in text or _LEFTOVER.search(text) is not None


def _mean(values: Iterable[float]) -> float | None:
    values = list(values)
    return statistics.fmean(values) if values else None


def _runs(said: Sequence[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(said[i : i + length]) for i in range(len(said) - length + 1)]


def _distinct(said: Sequence[Sequence[str]], length: int) -> float | None:
    runs = [run for each in said for run in _runs(each, length)]
    return len(set(runs)) / len(runs) if runs else None


def _repeated(said: Sequence[str], length: int) -> float:
    runs = _runs(said, length)
    return 1 - len(set(runs)) / len(runs)


def _self_bleu(texts: Sequence[str]) -> float | None:
    texts = [text for text in texts if text.strip()]
    if len(texts) < 2:
        return None
    bleu = _sacrebleu().BLEU(effective_order=True, tokenize=_tokenizer(texts))
    scores = (bleu.sentence_score(text, [*texts[:i], *texts[i + 1 :]]).score for i, text in enumerate(texts))
    return statistics.fmean(scores)


def _language_match(answers: Sequence[Answer]) -> float | None:
    from jaxchat.curation.language import UNKNOWN, Language

    if not find_spec("lingua"):
        return None
    step = Language()
    pairs = ((step.of([answer.text]), step.of([answer.asked])) for answer in answers)
    return _mean(mine == asked for mine, asked in pairs if UNKNOWN not in (mine, asked))


def _nearness(answers: Sequence[Answer]) -> dict[str, float | None]:
    if not answers:
        return dict.fromkeys(("bleu", "chrf", "rouge_1", "rouge_2", "rouge_l"))
    texts, references = [answer.text for answer in answers], [answer.reference for answer in answers]
    kinds = ("rouge1", "rouge2", "rougeL")
    rouge = _rouge(kinds)
    scores = [rouge.score(reference, text) for reference, text in zip(references, texts)]
    sacrebleu = _sacrebleu()
    return {
        "bleu": sacrebleu.BLEU(tokenize=_tokenizer(references)).corpus_score(texts, [references]).score,
        "chrf": sacrebleu.CHRF().corpus_score(texts, [references]).score,
        **{f"rouge_{kind[5:].lower()}": statistics.fmean(score[kind].fmeasure for score in scores) for kind in kinds},
    }


def _tokenizer(texts: Sequence[str]) -> str:
    """sacreBLEU's name for how these texts are cut into words."""
    return "zh" if sum(map(has_unspaced, texts)) > len(texts) / 2 else "13a"


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise _missing("sacrebleu") from None
    return metrics


def _rouge(kinds: Sequence[str]) -> Any:
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        raise _missing("rouge-score") from None

    class Words:
        """Its own tokenizer keeps ASCII alone."""

        def tokenize(self, text: str) -> list[str]:
            return words(text.casefold())

    return rouge_scorer.RougeScorer(list(kinds), tokenizer=Words())


def check_packages() -> None:
    """Raises InputError unless what compares texts is installed: to be asked before a model answers for an hour."""
    _sacrebleu()
    _rouge(("rougeL",))


def _missing(package: str) -> InputError:
    return InputError(f"measuring answers needs the package {package}; install it with pip install 'jaxchat[evals]'")
