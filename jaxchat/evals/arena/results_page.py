"""A study's results as one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxchat.page import bars, boxed, card, cards, document, intervals, section, stacked, table, tile, tiles


def page(found: Mapping[str, Any]) -> str:
    """The page of what results.py found."""
    title = found["study"]["title"]
    parts = [section(name, inside) for name, inside in (verdict(found) | _working(found)).items()]
    body = "\n".join([f"<h1>{escape(title)}</h1>", about(found), *parts])
    return document(f"{title}: results", body)


def about(found: Mapping[str, Any]) -> str:
    """What was rated by how many, and how to read it."""
    ratings = found["ratings"]
    flagged = sum(bool(row["flags"]) for row in found["raters"])
    head = tiles(
        [
            tile(f"{ratings['counting']:,}", "ratings that count"),
            tile(f"{ratings['raters']:,}", "raters"),
            tile(f"{found['study']['prompts']:,}", "prompts"),
            tile(
                f"{ratings['items_complete']:,} / {ratings['items']:,}",
                f"items rated {ratings['wanted']} times or more",
            ),
            tile(f"{flagged:,}", "raters flagged", bad=flagged > 0),
        ]
    )
    return f"<p>{escape(_told(found))}</p>{head}"


def verdict(found: Mapping[str, Any]) -> dict[str, str]:
    """What was said of the models, and whether raters agree: HTML by its heading. No rater is named."""
    said = _pairs(found) if found["study"]["kind"] == "pairs" else _scales(found)
    return said | {"Whether raters agree": _agreement(found)}


def _working(found: Mapping[str, Any]) -> dict[str, str]:
    return {"How raters worked": _raters(found), "How many ratings show a difference": _sizes(found)}


def _told(found: Mapping[str, Any]) -> str:
    said = [
        "Raters knew of no model which it was. Intervals are of 95 % and take in that the ratings of one rater are "
        "alike, and those of one prompt."
    ]
    if found["left_out_raters"]:
        said.append(f"Left out, as flagged: {len(found['left_out_raters']):,} raters.")
    elif any(row["flags"] for row in found["raters"]):
        said.append("Raters who are flagged are counted; --without-flagged leaves them out.")
    if changed := found["ratings"]["changed"]:
        said.append(f"{changed:,} ratings were changed by their rater, of which the last counts.")
    return " ".join(said)


def _pairs(found: Mapping[str, Any]) -> dict[str, str]:
    models = found["models"]
    charts = [
        card("Elo (Bradley-Terry, ties after Davidson)", intervals(_with_bounds(models, "elo"))),
        card("Win rate, a tie half a win", intervals(_with_bounds(models, "win_rate"))),
    ]
    rows = [
        (
            name,
            f"{row['comparisons']:,}",
            *(f"{row[key]:,}" for key in ("wins", "losses", "ties", "both_bad")),
            _with_interval(row, "win_rate", ".3f"),
            _with_interval(row, "elo", ".0f"),
        )
        for name, row in models.items()
    ]
    names = ("model", "comparisons", "wins", "losses", "ties", "both bad", "win rate", "Elo")
    versus = {
        f"{row['first']} and {row['second']}": {
            "the first is better": row["first_won"],
            "tie": row["tie"],
            "both bad": row["both_bad"],
            "the second is better": row["second_won"],
        }
        for row in found["pairs"]
    }
    said = {
        f"{row['first']} and {row['second']}": f"win rate of the first {_with_interval(row, 'win_rate', '.3f')}"
        for row in found["pairs"]
    }
    ends = {name: sum(parts.values()) or 1 for name, parts in versus.items()}
    sides = found["sides"]
    side = boxed(
        table(
            ("chose the left", "chose the right", "share of the left"),
            [(f"{sides['a']:,}", f"{sides['b']:,}", _with_interval(sides, "share_a", ".3f"))],
            numbers=range(3),
        )
    )
    side += "<p>Which answer stood on the left was by chance: without a bias the share is 0.5.</p>"
    return {
        "Which is better": cards(charts) + boxed(table(names, rows, numbers=range(1, 8))),
        "Each against each": boxed(stacked(versus, said, ends, (_BLUE, _GREY, _DARK, _RED))),
        "Left and right": side,
    }


def _scales(found: Mapping[str, Any]) -> dict[str, str]:
    charts, rows = [], []
    for scale, models in found["scales"].items():
        values = {
            name: (row["mean"], *(row["interval"] or (row["mean"],) * 2))
            for name, row in models.items()
            if row["mean"] is not None
        }
        given = {name: {f"{n}": count for n, count in enumerate(row["counts"], 1)} for name, row in models.items()}
        ends = {name: sum(counts.values()) or 1 for name, counts in given.items()}
        said = {name: f"{row['ratings']:,} ratings" for name, row in models.items()}
        shades = _shades(len(next(iter(given.values()))))
        bars_given = stacked(given, said, ends, shades)
        charts.append(card(scale, f"{intervals(values)}<p>Points as they were given:</p>{bars_given}"))
        rows += [
            (
                scale,
                name,
                f"{row['ratings']:,}",
                f"{_number(row['mean'], '.2f')} {_bounds(row['interval'], '.2f')}",
                f"{_number(row['above_first'], '+.2f')} {_bounds(row['above_first_interval'], '+.2f')}" if i else "-",
            )
            for i, (name, row) in enumerate(models.items())
        ]
    head = ("scale", "model", "ratings", "mean", f"above {next(iter(found['models']))}")
    return {"What was given": cards(charts) + boxed(table(head, rows, numbers=(2, 3, 4)))}


def _agreement(found: Mapping[str, Any]) -> str:
    each = {"verdicts": found["agreement"]} if found["study"]["kind"] == "pairs" else found["agreement"]
    rows = [
        (
            name,
            f"{row['items_rated_twice_or_more']:,}",
            f"{_number(row['krippendorff_alpha'], '.3f')} {_bounds(row['krippendorff_alpha_interval'], '.3f')}",
            f"{_number(row['fleiss_kappa'], '.3f')}",
            f"{row['fleiss_items']:,} x {row['fleiss_raters']}",
            f"{_number(row['cohen_kappa']['mean'], '.3f')}",
            f"{len(row['cohen_kappa']['pairs']):,}",
        )
        for name, row in each.items()
    ]
    head = (
        "of",
        "items",
        "Krippendorff's alpha",
        "Fleiss' kappa",
        "items x raters",
        "Cohen's kappa",
        "of pairs",
    )
    note = (
        "1 is agreement in everything, 0 what chance would give. Items are those with two ratings or more. Scales are "
        "taken as ordinal, and Cohen's kappa is weighted by squares there; it is the mean of pairs who share ten."
    )
    return boxed(table(head, rows, numbers=range(1, 7))) + f"<p>{escape(note)}</p>"


def _raters(found: Mapping[str, Any]) -> str:
    rows = [
        (
            row["rater"],
            f"{row['ratings']:,}",
            f"{row['checks'] - row['checks_failed']} / {row['checks']}",
            _number(row["agreement"], ".0%"),
            _number(row["median_seconds"], ".1f"),
            *((f"{row['chose_a']} : {row['chose_b']}",) if found["study"]["kind"] == "pairs" else ()),
            f"{row['comments']:,}",
            "; ".join(row["flags"]) or "-",
        )
        for row in sorted(found["raters"], key=lambda row: (not row["flags"], row["rater"]))
    ]
    sides = ("left : right",) if found["study"]["kind"] == "pairs" else ()
    head = ("rater", "ratings", "checks passed", "agrees", "seconds", *sides, "comments", "flagged, since they")
    return boxed(table(head, rows, numbers=range(1, len(head) - 1)))


def _sizes(found: Mapping[str, Any]) -> str:
    size = found["sample_size"]
    if found["study"]["kind"] == "pairs":
        said = {
            "if every rating stood for itself": size["comparisons_of_two_models"],
            f"with {size['ties']:.0%} ties, as here": size["with_this_study_s_ties"],
            "and with raters and prompts that sway as here": size["and_its_raters_and_prompts"],
        }
        title = f"Comparisons of two models, to tell a win rate of {0.5 + size['difference']:.3g} from 0.5"
        return card(title, bars(said, shares=False)) + _POWER
    head = ("scale", "difference", "standard deviation", "ratings of each model", "with raters and prompts as here")
    rows = [
        (
            scale,
            f"{row['difference']:.2f}",
            f"{row['standard_deviation']:.2f}",
            f"{row['ratings_of_each_model']:,}",
            f"{row['with_this_study_s_raters_and_prompts']:,}",
        )
        for scale, row in size.items()
    ]
    return boxed(table(head, rows, numbers=range(1, 5))) + _POWER


_BLUE, _GREY, _DARK, _RED = "#3b6fd4", "#b9bcc2", "#8b8f97", "#c2643a"


def _shades(points: int) -> list[str]:
    """From red over grey to blue, a colour a point."""
    ends = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in (_RED, _GREY, _BLUE)]
    shades = []
    for n in range(points):
        at = 2 * n / (points - 1)
        low = min(int(at), 1)
        parts = (round(a + (b - a) * (at - low)) for a, b in zip(ends[low], ends[low + 1]))
        shades.append("#" + "".join(f"{part:02x}" for part in parts))
    return shades


_POWER = "<p>Two-sided at 5 %, seen four times in five (a power of 80 %).</p>"


def _with_bounds(models: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, tuple[float, float, float]]:
    return {
        name: (row[key], *(row[f"{key}_interval"] or (row[key],) * 2))
        for name, row in models.items()
        if row[key] is not None
    }


def _with_interval(row: Mapping[str, Any], key: str, form: str) -> str:
    return f"{_number(row[key], form)} {_bounds(row[f'{key}_interval'], form)}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _bounds(interval: Sequence[float] | None, form: str) -> str:
    return "" if interval is None else f"({interval[0]:{form}} to {interval[1]:{form}})"
