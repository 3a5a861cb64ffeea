"""Every item the planned number of times, no rater twice, sides even, checks spread; whoever goes leaves no gap."""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict

import pytest

from jaxchat.evals.arena.judged import checked, counting, read_judged
from tests.evals.arena.conftest import CHECK


def rate_all(arena, rater: int, verdict: str = "first", most: int = 1000) -> str:
    """Rates until there is nothing more; the last state."""
    for _ in range(most):
        now = arena.desk.next(rater)
        if now.state != "item":
            return now.state
        arena.say(rater, now, verdict)
    return "item"


def test_each_item_is_rated_as_often_as_planned_by_different_raters_and_from_both_sides(opened):
    arena = opened(6, ("m1", "m2", "m3"), ratings=2, per_rater=6)
    for rater in arena.raters(6):
        assert rate_all(arena, rater) == "done"
    said = counting(read_judged(arena.folder, arena.store))
    raters, ways = defaultdict(list), defaultdict(Counter)
    for one in said:
        raters[one.item.id].append(one.rater)
        ways[one.item.id][one.flipped] += 1
    assert len(raters) == 18 and all(len(set(each)) == len(each) == 2 for each in raters.values())
    assert all(way == {True: 1, False: 1} for way in ways.values())


def test_raters_in_parallel_never_overshoot(opened):
    arena = opened(12, ratings=3, per_rater=9)
    threads = [threading.Thread(target=rate_all, args=(arena, rater)) for rater in arena.raters(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = Counter(one.item.id for one in counting(read_judged(arena.folder, arena.store)))
    assert set(times.values()) == {3} and len(times) == 12


def test_half_way_all_items_and_pairs_of_models_have_as_many(opened):
    arena = opened(6, ("m1", "m2", "m3"), ratings=4)
    one, other = arena.raters(2)
    rate_all(arena, one, most=9)
    rate_all(arena, other, most=9)
    said = counting(read_judged(arena.folder, arena.store))
    assert set(Counter(one.item.id for one in said).values()) == {1} and len(said) == 18
    assert set(Counter(one.item.models for one in said[:9]).values()) == {3}
    assert (
        Counter(one.item.prompt for one in said[:6]).most_common(1)[0][1] == 1
    )  # another prompt each, while there are


def test_an_item_that_is_left_goes_to_another_once_its_time_is_over(opened):
    arena = opened(1, ratings=1, reserve_minutes=10)
    one, other = arena.raters(2)
    left = arena.desk.next(one)
    assert arena.desk.next(one).shown.key == left.shown.key  # a refreshed page
    assert arena.desk.next(other).state == "wait"
    arena.clock[0] += 601
    assert arena.desk.next(other).item.id == left.item.id
    assert arena.desk.next(one).state == "wait"
    assert rate_all(arena, other) == "done"
    assert arena.desk.next(one).state == "done"
    arena.say(one, left, "second")  # what came late all the same is kept
    assert len(read_judged(arena.folder, arena.store)) == 2


def test_who_comes_back_late_goes_on_where_they_were_unless_others_did(opened):
    arena = opened(2, ratings=1, reserve_minutes=10)
    one, _ = arena.raters(2)
    left = arena.desk.next(one)
    arena.clock[0] += 10_000
    assert arena.desk.next(one).shown.key == left.shown.key


def test_practice_comes_first_and_checks_are_spread_and_neither_counts(opened):
    arena = opened(30, ratings=5, practice=[CHECK], checks=[CHECK, CHECK, CHECK], per_rater=20)
    places = []
    for rater in arena.raters(2):
        order = []
        while (now := arena.desk.next(rater)).state == "item":
            order.append(now.item)
            assert now.total == 23
            arena.say(rater, now, "first")
        assert order[0].practice and sum(item.practice for item in order) == 1 and len(order) == 24
        at = [i for i, item in enumerate(order[1:]) if item.trial]
        assert len(at) == 3 and at[0] >= 1 and all(b - a > 1 for a, b in itertools.pairwise(at))
        places.append(at)
    judged = read_judged(arena.folder, arena.store)
    assert places[0] != places[1] and len(counting(judged)) == 40 and len(checked(judged)) == 6


def test_live_prompts_are_answered_by_every_pair_as_often(opened):
    arena = opened(0, ("m1", "m2", "m3"), live={"m1": "a", "m2": "b", "m3": "c"}, per_rater=6)
    (rater,) = arena.raters(1)
    asked = []
    while (now := arena.desk.next(rater)).state == "ask":
        now = arena.desk.ask(rater, f"question {len(asked)}", lambda model, text: f"{model} says {text}")
        assert now.item.answers == tuple(f"{model} says question {len(asked)}" for model in now.item.models)
        asked.append(now.item.models)
        arena.say(rater, now, "second")
    assert now.state == "done" and set(Counter(asked).values()) == {2} and len(set(asked)) == 3
    assert len(counting(read_judged(arena.folder, arena.store))) == 6


def test_a_question_that_is_sent_twice_is_asked_once(opened):
    arena = opened(0, live={"m1": "a", "m2": "b"})
    (rater,) = arena.raters(1)
    asked, gate = [], threading.Event()

    def answer(model: str, text: str) -> str:
        asked.append(text)
        gate.wait(5)
        return text

    threads = [threading.Thread(target=arena.desk.ask, args=(rater, "Hi", answer)) for _ in range(2)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert asked == ["Hi", "Hi"]  # each model once
    assert arena.store.read("SELECT COUNT(*) AS n FROM asked")[0]["n"] == 1


@pytest.mark.parametrize("verdict", ["first", "second"])
def test_a_verdict_is_the_answer_s_whichever_side_it_stood_on(opened, verdict):
    arena = opened(8, ratings=1)
    (rater,) = arena.raters(1)
    rate_all(arena, rater, verdict)
    said = counting(read_judged(arena.folder, arena.store))
    assert {one.rating.verdict for one in said} == {verdict} and {one.flipped for one in said} == {True, False}
