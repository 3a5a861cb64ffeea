"""Planted strengths are recovered, intervals hold them, careless raters stand out; what is exported comes back in."""

from __future__ import annotations

import csv
import io
import itertools
import json
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest

from jaxchat.__main__ import main
from jaxchat.chat.conversation import read_conversations
from jaxchat.errors import InputError
from jaxchat.evals.arena import results_page
from jaxchat.evals.arena.bradley_terry import strengths
from jaxchat.evals.arena.export import as_csv, as_jsonl, preferences, rows
from jaxchat.evals.arena.judged import read_judged
from jaxchat.evals.arena.plots import draw
from jaxchat.evals.arena.results import results
from jaxchat.run import report_page
from tests.evals.arena.conftest import CHECK, Open, drawn, simulate

MODELS = {"weak": -0.8, "plain": -0.2, "good": 0.2, "best": 0.8}
CARELESS = {3, 11, 19, 27, 41}


@pytest.fixture
def simulated(opened) -> Open:
    """Fifty raters of whom five choose by chance, on planted strengths."""
    arena = opened(48, tuple(MODELS), ratings=5, per_rater=30, checks=[CHECK] * 5)
    simulate(arena, MODELS, 50, CARELESS, seed=1)
    return arena


def test_fifty_raters_recover_the_order_cover_the_truth_and_betray_the_careless(simulated):
    whole = results(simulated.folder, simulated.store)
    assert whole["ratings"]["counting"] == 48 * 6 * 5 and whole["ratings"]["most_of_an_item"] == 5
    assert list(whole["models"]) == ["best", "good", "plain", "weak"]
    flagged = {row["rater"] for row in whole["raters"] if row["flags"]}
    assert {f"r{i}" for i in CARELESS} <= flagged and len(flagged) <= 7  # careful ones lapse, too, in 3 % of checks
    careful = results(simulated.folder, simulated.store, without_flagged=True)
    assert set(careful["left_out_raters"]) == flagged and list(careful["models"]) == list(whole["models"])
    for name, strength in MODELS.items():
        low, high = careful["models"][name]["strength_interval"]
        assert low < strength < high and high - low < 0.6
        assert careful["models"][name]["elo_interval"][0] < careful["models"][name]["elo"]
    low, high = careful["sides"]["share_a_interval"]
    assert low < 0.5 < high
    assert whole["agreement"]["krippendorff_alpha"] < careful["agreement"]["krippendorff_alpha"]
    size = careful["sample_size"]
    assert size["comparisons_of_two_models"] == 783  # of the arcsine, for 0.55 against 0.5
    assert size["with_this_study_s_ties"] < 783 < 10 * size["and_its_raters_and_prompts"]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(opened):
    """Raters who lean to a model of their own and prompts that suit one make ratings alike; 95 % of intervals hold the
    strength that all such raters and prompts together have all the same (of 160: four models, forty studies)."""
    truth = dict(zip(MODELS, over_all(own=0.5)))
    held = 0
    for seed in range(40):
        arena = opened(30, tuple(MODELS), ratings=2, per_rater=20)
        simulate(arena, MODELS, 18, set(), seed=seed, own=0.5)
        found = results(arena.folder, arena.store)["models"]
        for name, strength in truth.items():
            low, high = found[name]["strength_interval"]
            held += low <= strength <= high
        arena.store.close()
    assert 0.9 <= held / 160 <= 0.995


def over_all(own: float) -> np.ndarray:
    """The strengths of all raters and prompts that conftest.simulate could draw."""
    pairs = list(itertools.combinations(range(len(MODELS)), 2))
    noise = np.random.default_rng(0).normal(0, own, (20_000, len(MODELS), 2)).sum(2)
    strength = np.array(list(MODELS.values())) + noise
    apart = np.array([strength[:, i] - strength[:, j] for i, j in pairs])
    weights = np.exp([apart / 2, -apart / 2, np.full_like(apart, -0.7)])
    shares = (weights / weights.sum(0)).mean(2) * 1e6
    return strengths(shares[:1], shares[1:2], shares[2:], pairs, len(MODELS))[0]


def test_a_rater_of_one_side_and_one_of_haste_are_flagged(opened):
    arena = opened(40, ratings=3)
    rng = random.Random(0)
    for i, rater in enumerate(arena.raters(3)):
        while (now := arena.desk.next(rater)).state == "item":
            left = "second" if now.shown.flipped else "first"
            arena.say(rater, now, left if i == 0 else drawn(rng, 0.5), seconds=1.0 if i == 1 else 12.0)
    flags = {row["rater"]: row["flags"] for row in results(arena.folder, arena.store)["raters"]}
    assert any("chose A in 40 of 40" in flag for flag in flags["r0"])
    assert any("takes 1.0 s" in flag for flag in flags["r1"]) and flags["r2"] == []


def test_scales_have_means_that_hold_the_planted_ones(opened):
    arena = opened(40, ("low", "high"), kind="scales", ratings=3)
    rng = random.Random(0)
    for rater in arena.raters(3):
        while (now := arena.desk.next(rater)).state == "item":
            mean = 4 if now.item.models == ("high",) else 2
            arena.say(
                rater, now, None, {scale.name: mean + rng.choice((-1, 0, 0, 1)) for scale in arena.folder.study.scales}
            )
    found = results(arena.folder, arena.store, difference=0.5)
    for scale in ("fluency", "sense", "relevance", "safety"):
        low, high = found["scales"][scale]["low"], found["scales"][scale]["high"]
        assert low["interval"][0] < 2 < low["interval"][1] and high["interval"][0] < 4 < high["interval"][1]
        assert high["above_first_interval"][0] > 1 and sum(high["counts"]) == high["ratings"] == 120
        assert found["agreement"][scale]["krippendorff_alpha"] > 0.5
        assert found["sample_size"][scale]["difference"] == 0.5


@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_the_page_of_a_run_shows_what_people_said_and_names_no_rater(opened, kind):
    arena = opened(6, ratings=2, kind=kind, title="Spring & round")
    rng = random.Random(0)
    for rater in arena.raters(2):
        while (now := arena.desk.next(rater)).state == "item":
            scores = {} if kind == "pairs" else {scale.name: rng.randint(1, 5) for scale in arena.folder.study.scales}
            arena.say(rater, now, rng.choice(("first", "second")) if kind == "pairs" else None, scores)
    found = json.loads(json.dumps(results(arena.folder, arena.store), allow_nan=False))
    (shown,) = report_page._evaluations(SimpleNamespace(evaluations={"people": found}, unread={}))
    assert "Judged by people: Spring &amp; round" in shown and "Krippendorff" in shown and "m2" in shown
    assert ("win rate" in shown) == (kind == "pairs") and "r0" not in shown and "r1" not in shown
    assert "r0" in results_page.page(found)


def test_who_was_never_compared_has_no_strength(opened, tmp_path):
    models = ("$x$_1", "$y$", "never")
    arena = opened(0, models, live=dict.fromkeys(models, "run"), per_rater=1)
    for rater in arena.raters(1):
        now = arena.desk.ask(rater, "Why?", lambda model, text: f"{text} {model == '$y$'}")
        arena.say(rater, now, "first")
    found = results(arena.folder, arena.store)
    met = {model for one in read_judged(arena.folder, arena.store) for model in one.item.models}
    assert {model for model, row in found["models"].items() if row["elo"] is not None} == met
    assert len(met) == 2 and found["ratings"]["items"] == found["ratings"]["items_complete"] == 1
    json.dumps(found, allow_nan=False)
    assert "never" in results_page.page(found) and len(draw(found, tmp_path)) == 4


def test_a_study_without_ratings_has_no_results(opened):
    arena = opened()
    with pytest.raises(InputError, match="no rating yet"):
        results(arena.folder, arena.store)


def test_one_rater_and_one_prompt_leave_intervals_open(opened):
    arena = opened(1, ratings=1)
    (rater,) = arena.raters(1)
    arena.say(rater, arena.desk.next(rater), "first")
    found = results(arena.folder, arena.store)
    assert found["models"]["m1"]["win_rate"] == 1 and found["models"]["m1"]["win_rate_interval"] is None
    json.dumps(found, allow_nan=False)


def test_every_rating_is_exported_and_says_whether_it_counts(opened):
    arena = opened(3, checks=[CHECK], ratings=1)
    (rater,) = arena.raters(1)
    while (now := arena.desk.next(rater)).state == "item":
        arena.say(rater, now, "first")
    (first, *_) = arena.store.shown_to(rater)
    from jaxchat.evals.arena.store import Rating

    arena.store.rate(rater, first.key, 1, Rating("tie", {}, "=cmd() changed,\nmy mind"))
    judged = read_judged(arena.folder, arena.store)
    table = list(csv.DictReader(io.StringIO(as_csv(rows(arena.folder.study, judged)))))
    lines = [json.loads(line) for line in as_jsonl(rows(arena.folder.study, judged)).split("\n")[:-1]]
    assert len(table) == len(lines) == 5 and Counter(row["kind"] for row in table) == {"item": 4, "check": 1}
    assert [row["counts"] for row in table].count("True") == 3
    assert table[-1]["comment"] == "'=cmd() changed,\nmy mind" and lines[-1]["comment"] == "=cmd() changed,\nmy mind"
    for row in lines[:-1]:
        if row["kind"] == "item":  # the first model's answer won, on the side where it stood
            assert row[f"response_{row['winner']}"].endswith("**a**") and row[f"model_{row['winner']}"] == "m1"


@pytest.mark.parametrize("kind", ["pairs", "scales"])
def test_preferences_import_as_a_corpus_without_a_change(opened, kind, tmp_path, capsys):
    arena = opened(12, ratings=2, kind=kind)
    rng = random.Random(0)
    for rater in arena.raters(2):
        while (now := arena.desk.next(rater)).state == "item":
            if kind == "pairs":
                arena.say(rater, now, rng.choice(("first", "second", "tie")))
            else:
                arena.say(rater, now, None, {scale.name: rng.randint(1, 5) for scale in arena.folder.study.scales})
    expected = preferences(arena.folder.study, read_judged(arena.folder, arena.store))
    assert 4 <= len(expected) <= 12
    out, corpus = tmp_path / "preferences.jsonl", tmp_path / "corpus"
    assert main(["arena", "export", str(arena.folder.path), "--preference", str(out)]) == 0
    assert main(["data", "import", "preference", str(out), "--out", str(corpus)]) == 0
    stats = json.loads((corpus / "stats.json").read_text())
    assert stats["rows_used"] == stats["rows_in"] == stats["conversations"] == len(expected)
    found = list(read_conversations(corpus))
    assert [(one.messages, one.rejected) for one in found] == [(one.messages, one.rejected) for one in expected]
    assert [one.meta["chosen_model"] for one in found] == [one.meta["chosen_model"] for one in expected]
