"""Which conversations a tokenizer is trained on, so that each language has the share of the text that was asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaxchat.errors import InputError

OTHER = "other"


@dataclass(frozen=True)
class Text:
    """What is known of a conversation: its language, its size in UTF-8 bytes, and its lot (a number in [0, 1), drawn
    from what it says), by which it is chosen."""

    language: str
    size: int
    lot: float


@dataclass(frozen=True)
class Draw:
    """`chosen`: which of the conversations, by number. `languages`: language -> bytes there were, and bytes drawn."""

    chosen: frozenset[int]
    languages: dict[str, dict[str, int]]


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """["en=3", "zh=1"] as shares that add up to 1. `other` stands for all languages not named. InputError where a word
    says something else."""
    shares: dict[str, float] = {}
    for word in words:
        language, sign, number = word.partition("=")
        try:
            share = float(number)
        except ValueError:
            share = -1.0
        if not language or not sign or not 0 < share < float("inf"):
            raise InputError(f"--balance {word}: write LANGUAGE=SHARE, as en=60 zh=40")
        if language in shares:
            raise InputError(f"--balance names {language} twice; name it once")
        shares[language] = share
    total = sum(shares.values())
    return {language: share / total for language, share in shares.items()}


def draw(texts: Sequence[Text], shares: Mapping[str, float], most: int | None = None) -> Draw:
    """The conversations to train on: nothing twice, and of each language its share of the bytes, as much in all as the
    scarcest allows (`most` bytes at most). Languages without a share are left out; without any shares, none is.

    Those with the smallest lots are taken: the choice depends on the texts alone, not on their order.
    Raises InputError for a language with a share and no text.
    """
    groups: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        groups.setdefault(text.language, []).append(i)
    there = {language: sum(texts[i].size for i in group) for language, group in groups.items()}
    # A language's group: its own share's, or that of the others.
    shared = {language: language if language in shares else OTHER for language in groups}
    room: dict[str, int] = {}
    for language, size in there.items():
        room[shared[language]] = room.get(shared[language], 0) + size
    if missing := [language for language in shares if not room.get(language)]:
        known = ", ".join(f"{name} ({size:,} bytes)" for name, size in _largest(there))
        raise InputError(f"--balance: there is no text in {missing[0]}; there is {known or 'none at all'}")
    if shares:
        total = min(room[language] / share for language, share in shares.items())
    else:
        total, shares = float(sum(there.values())), {OTHER: 1.0}
        shared = dict.fromkeys(groups, OTHER)
    total = min(total, most) if most is not None else total
    chosen: set[int] = set()
    for name, share in shares.items():
        members = [i for language, group in groups.items() if shared[language] == name for i in group]
        members.sort(key=lambda i: (texts[i].lot, i))
        chosen |= _first(members, texts, share * total)
    drawn = {language: sum(texts[i].size for i in group if i in chosen) for language, group in groups.items()}
    return Draw(frozenset(chosen), {name: {"bytes": size, "drawn": drawn[name]} for name, size in _largest(there)})


def _first(members: Iterable[int], texts: Sequence[Text], wanted: float) -> set[int]:
    """The first of `members` whose sizes come nearest to `wanted` without a text cut."""
    taken: set[int] = set()
    size = 0
    for i in members:
        # Half of a text more is nearer than none of it.
        if size + texts[i].size / 2 > wanted:
            break
        taken.add(i)
        size += texts[i].size
    return taken


def _largest(sizes: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
