"""What somebody else's published values say beside ours, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.compare.conclusion import Conclusion, PaperValue, Published, PublishedDifference, PublishedValue
from pipeline.compare.report.values import (
    digits_of,
    label_of,
    metric_of,
    minus,
    name,
    number,
    ours_text,
    plain,
    scalar,
    seeds_compared,
    signed,
)


def reproduced_text(reproduced: bool | None) -> str:
    """In words; None: too few seeds."""
    return "not judged" if reproduced is None else "reproduced" if reproduced else "not reproduced"


def published_sentence(figures: Sequence[PublishedValue]) -> str:
    """How many of somebody else's figures were reproduced."""
    rest = sum(figure.reproduced is None for figure in figures)
    unjudged = f"; not judged, for too few seeds: {rest}" if rest else ""
    return f"Published values reproduced: {_reproduced(figures)}{unjudged}."


def _reproduced(figures: Sequence[PublishedValue]) -> str:
    """`3 of 4`, of those that can be judged."""
    judged = [bool(figure.reproduced) for figure in figures if figure.reproduced is not None]
    return f"{sum(judged)} of {len(judged)}"


def misread_sentence(figure: PublishedValue, conclusion: Conclusion) -> str:
    """What the figure would be if it were what it is commonly read as; empty where it is that."""
    if not figure.commonly_read_as:
        return ""
    metric = metric_of(conclusion, figure.commonly_read_as)
    ours = ours_text(figure.commonly_read_as_mean, figure.commonly_read_as_low, figure.commonly_read_as_high, metric)
    return f"Read as {label_of(metric)}, ours is {ours}: {reproduced_text(figure.commonly_read_as_reproduced)}."


def misread_summary(figures: Sequence[PublishedValue], conclusion: Conclusion) -> str:
    """Of figures that are commonly read as another metric than they are: as which of the two they are reproduced."""
    metric, seems = (label_of(metric_of(conclusion, m)) for m in (figures[0].metric, figures[0].commonly_read_as))
    judged = [figure for figure in figures if None not in (figure.reproduced, figure.commonly_read_as_reproduced)]
    sentence = f"Published values commonly read as {seems}, but in fact {metric}: {len(figures)}; reproduced"
    if not judged:
        return f"{sentence}: unknown, for too few seeds."
    as_is, as_seems = (sum(bool(getattr(f, w)) for f in judged) for w in ("reproduced", "commonly_read_as_reproduced"))
    return f"{sentence} as {metric}: {as_is} of {len(judged)}, as {seems}: {as_seems} of {len(judged)}."


def chance_sentence(each: PublishedDifference, conclusion: Conclusion, decimals: int) -> str:
    """A published difference of one run each, beside ours and beside what chance alone does to it."""
    metric = metric_of(conclusion, each.metric)
    sentence = f"In {label_of(metric)}, {minus(each, metric)} ({seeds_compared(each.difference)}); "
    sentence += f"published, from one run each: {signed(each.published, decimals)}."
    if math.isnan(each.chance):
        return f"{sentence} We have too few seeds to say how far chance moves it."
    chance = number(each.chance, digits_of(2 * each.chance, metric.decimals))
    way = "more" if each.chance > abs(each.published) else "less"
    return f"{sentence} Chance alone moves the difference of two single runs by up to {chance}, {way} than that."


def stated_sentence(stated: PaperValue, published: Published) -> str:
    """A parameter as the text of a publication states it, and as its code ran."""
    what, paper, code = plain(stated.parameter), scalar(stated.paper_value), scalar(stated.code_value)
    if stated.same:
        return f"Paper and code agree in {what} of {name(stated.variation)}: {paper}."
    sentence = f"The paper states {what} = {paper} for {name(stated.variation)}; "
    sentence += f"its code ran with {code}{_factor(stated.code_value, stated.paper_value)}."
    ran = [figure for figure in published.values if figure.variation == stated.variation]
    other = f", {name(stated.alternative)}" if stated.alternative != stated.variation else ""
    paper_share = "unknown (no run has it)" if stated.alternative is None else _reproduced(stated.values)
    with_paper = f"with the paper's value{other if stated.alternative else ''}: {paper_share}"
    return f"{sentence} Published values reproduced with the code's value: {_reproduced(ran)}; {with_paper}."


def _factor(ran: object, stated: object) -> str:
    if isinstance(ran, int | float) and isinstance(stated, int | float) and ran and stated:
        return f", {float(f'{ran / stated:.3g}'):g} times that"
    return ""
