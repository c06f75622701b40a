"""The answer in words, no stronger than the figures allow."""

from __future__ import annotations

from dataclasses import dataclass

from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.cautions import cautions
from fusion_det.report.formatting import interval, join_words, p_value, percent, points
from fusion_det.report.statistics import ALPHA
from fusion_det.report.summary import Difference, MethodSummary, Summary, difference_between


@dataclass(frozen=True)
class Headline:
    """answer: one sentence. details: what qualifies it, a sentence or two each."""

    answer: str
    details: tuple[str, ...]


def headline(results: ExperimentResults, summary: Summary) -> Headline:
    """Which fusion helps most, by how much, and is the difference real?"""
    where = "On the demo's synthetic scenes" if results.dataset.synthetic else f"On {results.dataset.name}"
    if results.dataset.limit is not None:
        where += f" (only {results.dataset.limit} pairs)"
    details: list[str] = []
    if not summary.ranked:
        answer = "No method finished, so there is nothing to compare. The reasons are below."
    elif not summary.fusions:
        answer = f"{where}, only controls were run: {_figures(summary.ranked[0])} is the better."
    elif summary.reference is None:
        best = summary.fusions[0]
        answer = (
            f"{where}, {_figures(best)} has the highest figure, but no control was run: whether fusion helps is open."
        )
        details += _rivals(summary, best)
    else:
        best = summary.fusions[0]
        answer, more = _against_control(where, best, summary.reference, summary)
        details += [more, *_rivals(summary, best)]
    details += _caveats(results, summary)
    return Headline(answer, tuple(filter(None, details)))


def _figures(method: MethodSummary) -> str:
    spread = f" ± {percent(method.std)}" if method.std is not None else ""
    return f"{method.info.label} ({percent(method.mean)}{spread} % mAP@50)"


def _against_control(where: str, best: MethodSummary, control: MethodSummary, summary: Summary) -> tuple[str, str]:
    difference = best.difference
    if difference is None:
        return f"{where}, {_figures(best)} comes first among the fusions.", ""
    gain = f"{abs(100 * difference.value):.1f} points"
    beside = f"{control.info.label} alone ({percent(control.mean)} %)"
    evidence = _evidence(difference, summary)
    if difference.value <= 0:
        return f"{where}, no fusion beat {beside}; the best, {_figures(best)}, is {gain} below it.", evidence
    if difference.verdict == "yes":
        helped = [m for m in summary.fusions if m.difference is not None and m.difference.verdict == "yes"]
        helped = [m for m in helped if m.difference is not None and m.difference.value > 0]
        more = _company(best, helped, len(summary.fusions))
        return (
            f"{where}, {_figures(best)} helps most: {gain} above {beside}, more than chance explains.",
            evidence + more,
        )
    doubt = {
        "one seed": "a difference the test images support, from a single training, so its noise is not known",
        "seeds disagree": "but the training seeds do not agree on it",
        "no": "a difference not shown to be more than chance",
        "untested": "a difference that could not be tested",
    }[difference.verdict]
    if difference.verdict == "no" and _smallest_p(summary) >= ALPHA:
        doubt = "a difference that so few bootstrap replicates cannot test"
    return f"{where}, {_figures(best)} comes first: {gain} above {beside}, {doubt}.", evidence


def _company(best: MethodSummary, helped: list[MethodSummary], fusions: int) -> str:
    others = [m.info.label for m in helped if m is not best]
    if fusions == 1:
        return ""
    if not others:
        return f" Of {fusions} fusions it is the only one shown to beat the control."
    return f" Also shown to beat the control, of {fusions} fusions: {join_words(others)}."


def _smallest_p(summary: Summary) -> float:
    """The smallest adjusted p that this many replicates and comparisons can give, were every difference clear."""
    return min(1.0, 2 / (summary.replicates + 1) * summary.family)


def _evidence(d: Difference, summary: Summary) -> str:
    if d.low is None:
        return "There are no paired bootstrap replicates, so the difference has no interval."
    seeds = f"; {d.seeds_agreeing} of {d.seeds_common} training seeds have its sign" if d.seeds_common > 1 else ""
    return (
        f"The difference is {points(d.value)} points, 95 % interval {interval(d.low, d.high, signed=True)} over the test "
        f"images, p = {p_value(d.p_holm)} after Holm's correction for {summary.family} comparisons{seeds}."
    )


def _rivals(summary: Summary, best: MethodSummary) -> list[str]:
    """Fusions that the test images cannot tell from the best one."""
    others = [m for m in summary.fusions if m is not best]
    if not others:
        return []
    rivals = []
    for other in others:
        difference = difference_between(best, other)
        if not difference.excludes_zero:
            rivals.append(other.info.label)
    if not rivals:
        return [f"Its interval against every other fusion excludes zero; the closest is {_figures(others[0])}."]
    return [
        f"It cannot be told from {join_words(rivals)} on these images: the paired 95 % "
        f"interval{'s' if len(rivals) > 1 else ''} of the difference include{'s' if len(rivals) == 1 else ''} zero."
    ]


def _caveats(results: ExperimentResults, summary: Summary) -> list[str]:
    out = []
    if results.dataset.synthetic:
        out.append("The demo shows that everything works; its figures say nothing about these methods on real images.")
    if summary.ranked and all(len(m.values) == 1 for m in summary.ranked):
        out.append("One training seed: a second training would give other figures, by an amount not measured here.")
    if summary.family and _smallest_p(summary) >= ALPHA:
        out.append(
            f"With {summary.replicates} bootstrap replicates and {summary.family} comparisons no adjusted p can fall below "
            f"{_smallest_p(summary):.3f}, so no difference can count as shown."
        )
    out += cautions(results, summary)
    flagged = [m.info.label for m in summary.ranked if m.info.contaminated]
    if flagged:
        clean = [m for m in summary.fusions if not m.info.contaminated]
        best = f" Among the other fusions {_figures(clean[0])} comes first." if clean else ""
        out.append(f"The weights of {join_words(flagged)} have, or may have, seen test images (†).{best}")
    own = [m.info.label for m in summary.ranked if m.info.weights_source not in ("", "official")]
    if own:
        verb = "has" if len(own) == 1 else "have"
        out.append(
            f"{join_words(own)} {verb} weights that are not the authors', so the figures are not these methods' best."
        )
    waiting = [m.info.label for m in summary.methods if m.mean is None and m.without_figure == "no weights"]
    if waiting:
        out.append(f"No figure for {join_words(waiting)}, whose weights are not there.")
    failed = [m.info.label for m in summary.methods if m.mean is None and m.without_figure == "failed"]
    if failed:
        out.append(f"No figure for {join_words(failed)}; the reason is below.")
    return out
