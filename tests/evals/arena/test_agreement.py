"""Agreement equals published worked examples, each named where it is used."""

from __future__ import annotations

import numpy as np
import pytest

from jaxchat.evals.arena.agreement import agreement, alpha, cohen, fleiss

# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, part C: four observers, twelve units, gaps.
KRIPPENDORFF_2011 = (
    (1, 2, 3, 3, 2, 1, 4, 1, 2, 0, 0, 0),
    (1, 2, 3, 3, 2, 2, 4, 1, 2, 5, 0, 3),
    (0, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, 0),
    (1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, 0),
)
# Fleiss' kappa's example on Wikipedia: fourteen raters give ten subjects one of five categories.
FLEISS_WIKIPEDIA = (
    (0, 0, 0, 0, 14),
    (0, 2, 6, 4, 2),
    (0, 0, 3, 5, 6),
    (0, 3, 9, 2, 0),
    (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0),
    (3, 2, 6, 3, 0),
    (2, 5, 3, 2, 2),
    (6, 5, 2, 1, 0),
    (0, 2, 2, 3, 7),
)
# Cohen (1968), Weighted kappa, table 1: two judges, 200 diagnoses; kappa .492, and by weights of disagreement .348, or
# .574 where two of those change places. R's DMAR has the table (diagnosis_agreement) and its documents the figures.
COHEN_1968 = ((88, 14, 18), (10, 40, 10), (2, 6, 12))
# Cohen's kappa's first example on Wikipedia: fifty proposals for a grant; kappa 0.4.
COHEN_WIKIPEDIA = ((20, 5), (10, 15))


def counted(observers: tuple[tuple[int, ...], ...], values: int) -> np.ndarray:
    return np.array([[column.count(value) for value in range(1, values + 1)] for column in zip(*observers)])


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorff_2011(level, published):
    assert alpha(counted(KRIPPENDORFF_2011, 5), level) == pytest.approx(published, abs=5e-4)


def test_kappa_of_fleiss_as_on_wikipedia():
    kappa, items, raters = fleiss(np.array(FLEISS_WIKIPEDIA))
    assert kappa == pytest.approx(0.210, abs=5e-4) and (items, raters) == (10, 14)


def test_kappa_of_cohen_1968_and_of_wikipedia():
    assert cohen(np.array(COHEN_1968)) == pytest.approx(0.492, abs=5e-4)
    assert cohen(np.array(COHEN_WIKIPEDIA)) == pytest.approx(0.4)


def test_weighted_kappa_by_its_definition():
    table = np.array(COHEN_1968, float)
    apart = (np.arange(3)[:, None] - np.arange(3)) ** 2
    expected = np.outer(table.sum(1), table.sum(0)) / table.sum()
    assert cohen(table, weighted=True) == pytest.approx(1 - (apart * table).sum() / (apart * expected).sum())


def test_raters_with_names_give_the_same_as_tables():
    said = {
        f"u{u}": {f"o{o}": value - 1 for o, value in enumerate(column) if value}
        for u, column in enumerate(zip(*KRIPPENDORFF_2011))
    }
    found = agreement(said, 5, "nominal")
    assert found["krippendorff_alpha"] == pytest.approx(0.743, abs=5e-4)
    low, high = found["krippendorff_alpha_interval"]
    assert low < 0.743 < high <= 1
    assert found["items_rated_twice_or_more"] == 11  # the twelfth has one rating, which agrees with nobody
    assert found["fleiss_items"] == 8 and found["fleiss_raters"] == 4
    pairs = {tuple(pair["raters"]): pair["items"] for pair in found["cohen_kappa"]["pairs"]}
    assert pairs == {("o1", "o3"): 10, ("o2", "o3"): 10}  # the others share fewer than ten units


def test_kappa_of_two_raters_by_name():
    said = {}
    for i, row in enumerate(COHEN_WIKIPEDIA):
        for j, times in enumerate(row):
            said |= {f"{i}{j}{n}": {"reader A": i, "reader B": j} for n in range(times)}
    (pair,) = agreement(said, 2, "nominal")["cohen_kappa"]["pairs"]
    assert pair["raters"] == ["reader A", "reader B"] and pair["items"] == 50 and pair["kappa"] == pytest.approx(0.4)


def test_where_nothing_is_shared_or_differs_nothing_is_said():
    alone = agreement({"a": {"x": 0}, "b": {"y": 1}}, 2, "nominal")
    same = agreement({f"{i}": {"x": 0, "y": 0} for i in range(20)}, 2, "nominal")
    for found in (alone, same):
        assert found["krippendorff_alpha"] is found["fleiss_kappa"] is found["cohen_kappa"]["mean"] is None
