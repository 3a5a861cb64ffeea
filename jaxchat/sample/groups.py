"""Rows that are written together: a step looks over as many slots as its longest row has, for every row of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, groupby
from typing import TypeVar

Member = TypeVar("Member")


def groups(
    members: Sequence[Member], span: Callable[[Member], int], cost: Callable[[list[Member]], float]
) -> list[list[Member]]:
    """Members of like spans together, short ones first: the groups that cost least one after the other.

    span: slots that a member needs. cost: of a step for some members. Members of one span stay together.
    """
    parts = [list(part) for _, part in groupby(sorted(members, key=span), span)]
    best: list[tuple[float, list[list[Member]]]] = [(0.0, [])]  # of no parts, of the first, of the first two ...
    for end in range(1, len(parts) + 1):
        found = []
        for begin, (before, apart) in enumerate(best):
            together = list(chain(*parts[begin:end]))
            found.append((before + cost(together), [*apart, together]))
        best.append(min(found, key=lambda one: one[0]))
    return best[-1][1]
