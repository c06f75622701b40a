"""Tables of an ablation: every variant by every metric, and the paper's Table V beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from fusion_det.ablation.results import AblationResults, Budget, VariantInfo
from fusion_det.ablation.summary import AblationSummary, Estimate, VariantFigures, value_of
from fusion_det.quality.table import Metric
from fusion_det.report.formatting import MISSING, Mark, join_words, marks_of_printed, number
from fusion_det.report.page import flat_facts
from fusion_det.report.quality_summary import decimals, printed
from fusion_det.report.tables import Cell, Table

SLUG = "ablation"
CONTROL_LABEL = "Plain mean (control)"
JSON_SCHEMA = "fusion_det/ablation"
JSON_SCHEMA_VERSION = 1


def stamps(results: AblationResults) -> tuple[str, ...]:
    """What must stand on every table, figure and page."""
    found = []
    if results.synthetic:
        found.append("DEMO: synthetic scenes drawn by code, not a benchmark")
    if (text := budget_text(results.budget)) and _is_short(results.budget):
        found.append(f"SHORT TRAINING: {text}, far from the paper's {results.budget.paper_epochs} epochs")
    return tuple(found)


def short_stamp(results: AblationResults) -> str:
    """The stamps in a word or two, or ""."""
    return " · ".join(text.split(":")[0] for text in stamps(results))


def budget_text(budget: Budget) -> str:
    """ "trained 80 steps of batch 2 on 134 pairs (1.2 epochs), crops of 61 pixels"."""
    how = f"batch {budget.pairs_a_step} on {budget.pairs} pairs"
    if budget.epochs is None:
        return f"trained {number(budget.minutes, 1)} minutes with {how}, crops of {budget.crop} pixels"
    epochs = number(budget.epochs, 0 if budget.epochs >= 10 else 1)
    return f"trained {budget.steps} steps of {how} ({epochs} epochs), crops of {budget.crop} pixels"


def _is_short(budget: Budget) -> bool:
    return budget.epochs is None or budget.epochs < 0.95 * budget.paper_epochs


def ablation_table(summary: AblationSummary) -> Table:
    """A row a variant: parameters, and the mean of every metric with its interval; best bold, second best underlined."""
    results = summary.results
    columns = [_column(summary, metric) for metric in summary.metrics]
    rows = []
    for i, v in enumerate(summary.variants):
        counts = [_millions(v.info.parameters), _millions(v.info.parameters_used)]
        rows.append((Cell(name_of(v.info), value=float(i)), *counts, *(column[i] for column in columns)))
    if any(value is not None for value in summary.control.values()):
        plain = [(m, summary.control[m.name]) for m in summary.metrics]
        cells = [Cell(number(value, decimals(m, results.profile)), value=value) for m, value in plain]
        rows.append((Cell(CONTROL_LABEL, value=float(len(rows))), Cell(number(0, 0)), Cell(number(0, 0)), *cells))
    return Table(
        slug=SLUG,
        caption=f"{results.method} and what is left of it without a part: means over {results.measured_on}, with 95 % "
        "intervals over resampled pairs.",
        head=("Variant", "params [M]", "used [M]", *(f"{m.name} {m.arrow}" for m in summary.metrics)),
        rows=tuple(rows),
        notes=tuple(notes(summary)),
        stamps=stamps(results),
    )


def name_of(variant: VariantInfo) -> str:
    """ "Exp.1  CMSA → ADD"."""
    return " ".join(filter(None, [variant.paper_row, variant.label]))


def notes(summary: AblationSummary) -> list[str]:
    """What a reader must know to read the table."""
    results = summary.results
    seeds = sorted({t.seed for t in results.trials})
    count = len(seeds)
    found = [
        f"Every variant {budget_text(results.budget)}; learnt from {results.learnt_from}, none of which is measured; the last "
        f"weights are taken. {'Seed' if count == 1 else 'Seeds'} {join_words([str(seed) for seed in seeds])}.",
        "One training a variant: the intervals are over pairs and say nothing of what another seed would give."
        if count == 1
        else f"Means over {count} trainings a variant; ± is their standard deviation, the interval is over pairs.",
        f"Measured on the saved 8-bit images ({'grey' if results.color == 'gray' else 'luma of colour'}), profile "
        f"“{results.profile}”. Best bold, second best underlined, as printed.",
        "params: all parameters; used: those that the output depends on.",
        "The plain mean of both sources learns nothing and is not ranked: it is what a network has to beat.",
    ]
    found += [f"{name_of(v.info)}: {text}" for v in summary.variants if (text := _changes(v.info))]
    if len({t.commit for t in results.trials if t.steps is not None}) > 1:
        commits = [
            f"{name_of(v.info)} {t.commit[:8]}" for v in summary.variants for t in v.trials if t.steps is not None
        ]
        found.append(
            f"The program changed between the trainings, which may be a difference of its own: {', '.join(commits)}."
        )
    if results.budget.minutes is not None:
        steps = [f"{name_of(v.info)} {t.steps}" for v in summary.variants for t in v.trials if t.steps is not None]
        found.append(f"Equal time is not equal steps: {', '.join(steps)}.")
    if short := [
        f"{n} ({c} of {len(summary.stems)})" for n, c in summary.counted.items() if 0 < c < len(summary.stems)
    ]:
        found.append(f"Only on the pairs that every variant has a value of: {join_words(short)}.")
    found += [f"{name}: n/a. {why}" for name, why in summary.unavailable.items()]
    found += [
        f"{name_of(v.info)}: {'some' if v.values else 'no'} figures missing; {v.reason}"
        for v in summary.variants
        if v.reason
    ]
    return found


def published_table(summary: AblationSummary) -> Table | None:
    """The paper's figures and ours, column by column, each with its difference from its own whole method."""
    results, published = summary.results, summary.results.published
    if published is None or not summary.compared:
        return None
    marks = {m.name: _printed_marks(summary, m) for m in summary.compared}
    rows = []
    for i, v in enumerate(summary.variants):
        cells = [Cell(name_of(v.info), value=float(i))]
        for metric in summary.compared:
            digits = decimals(metric, results.profile)
            theirs = v.printed.get(metric.name)
            cells.append(
                Cell(number(theirs, digits), marks[metric.name][i], theirs, _signed(v.printed_change.get(metric.name)))
            )
            ours, change = v.mean[metric.name], v.change[metric.name]
            note = "" if change is None else _signed(change.value) + ("" if change.sign else " ?")
            cells.append(Cell(number(value_of(ours), digits), value=value_of(ours), note=note))
        rows.append(tuple(cells))
    own = (
        "Small: difference from the whole method of the same column, in percent; “?”: the 95 % interval of ours, paired over "
        "pairs, holds zero. Absolute figures of two datasets are not comparable, differences are the point."
    )
    return Table(
        slug=f"{SLUG}_published",
        caption=f"{published.name} (MSRS), and ours on {results.measured_on}.",
        head=("Variant", *(f"{m.name} {m.arrow} {whose}" for m in summary.compared for whose in ("printed", "ours"))),
        rows=tuple(rows),
        notes=(own, *published.notes),
        stamps=stamps(results),
    )


TIDY_COLUMNS = (
    "experiment", "method", "variant", "label", "config", "changes", "paper_row", "parameters", "parameters_used", "seeds",
    "steps", "pairs_a_step", "crop", "pairs_learnt_from", "epochs", "paper_epochs", "demo", "data_digest", "profile", "metric",
    "higher_is_better", "pairs", "mean", "low", "high", "std_over_seeds", "change_percent", "change_low", "change_high",
    "printed", "printed_change_percent", "reason",
)  # fmt: skip


def tidy_rows(summary: AblationSummary) -> Iterator[dict[str, Any]]:
    """One row a (variant, metric)."""
    for v in summary.variants:
        for metric in summary.metrics:
            mean, change = v.mean[metric.name], v.change[metric.name]
            yield {
                **_common(summary, v),
                "metric": metric.name,
                "higher_is_better": metric.higher_is_better,
                "pairs": summary.counted[metric.name] if v.values else 0,
                **_named(mean, ("mean", "low", "high")),
                "std_over_seeds": v.spread[metric.name],
                **_named(change, ("change_percent", "change_low", "change_high")),
                "printed": v.printed.get(metric.name),
                "printed_change_percent": v.printed_change.get(metric.name),
                "reason": v.reason or summary.unavailable.get(metric.name, ""),
            }


def image_columns(summary: AblationSummary) -> tuple[str, ...]:
    """Columns of the CSV of single pairs."""
    return ("experiment", "variant", "seed", "profile", "stem", *(metric.name for metric in summary.metrics))


def image_rows(summary: AblationSummary) -> Iterator[dict[str, Any]]:
    """One row a (variant, training, pair)."""
    results = summary.results
    for v in summary.variants:
        trials = [t for t in v.trials if t.values is not None]
        for s, trial in enumerate(trials if v.values else ()):
            for i, stem in enumerate(summary.stems):
                row = {"experiment": results.experiment, "variant": v.info.name, "seed": trial.seed, "stem": stem}
                values = {name: float(a[s, i]) if np.isfinite(a[s, i]) else None for name, a in v.values.items()}
                yield {**row, "profile": results.profile, **values}


def json_document(summary: AblationSummary) -> dict[str, Any]:
    """Everything in the tables, under a schema version."""
    results = summary.results
    return {
        "schema": JSON_SCHEMA,
        "schema_version": JSON_SCHEMA_VERSION,
        "experiment": results.experiment,
        "method": results.method,
        "reference": results.reference,
        "stamps": list(stamps(results)),
        "budget": results.budget.model_dump(),
        "learnt_from": results.learnt_from,
        "measured_on": results.measured_on,
        "data_digest": results.data_digest,
        "profile": results.profile,
        "metrics": [{"name": m.name, "higher_is_better": m.higher_is_better} for m in summary.metrics],
        "notes": notes(summary),
        "variants": [_json_variant(summary, v) for v in summary.variants],
        "control": dict(summary.control),
        "has_learnt": summary.has_learnt,
        "provenance": results.provenance,
    }


def _json_variant(summary: AblationSummary, v: VariantFigures) -> dict[str, Any]:
    return {
        **v.info.model_dump(),
        "reason": v.reason,
        "trainings": [t.model_dump(mode="json", exclude={"variant"}) for t in v.trials],
        "figures": {
            m.name: {
                **_named(v.mean[m.name], ("mean", "low", "high")),
                "std_over_seeds": v.spread[m.name],
                **_named(v.change[m.name], ("change_percent", "change_low", "change_high")),
                "printed": v.printed.get(m.name),
                "printed_change_percent": v.printed_change.get(m.name),
            }
            for m in summary.metrics
        },
    }


def _named(estimate: Estimate | None, names: tuple[str, str, str]) -> dict[str, float | None]:
    values = (None, None, None) if estimate is None else (estimate.value, estimate.low, estimate.high)
    return dict(zip(names, values, strict=True))


def _common(summary: AblationSummary, v: VariantFigures) -> dict[str, Any]:
    results, budget = summary.results, summary.results.budget
    return {
        "experiment": results.experiment,
        "method": results.method,
        "variant": v.info.name,
        "label": v.info.label,
        "config": v.info.config,
        "changes": _changes(v.info),
        "paper_row": v.info.paper_row,
        "parameters": v.info.parameters,
        "parameters_used": v.info.parameters_used,
        "seeds": " ".join(str(t.seed) for t in v.trials if t.values is not None),
        "steps": " ".join(dict.fromkeys(str(t.steps) for t in v.trials if t.steps is not None)),
        "pairs_a_step": budget.pairs_a_step,
        "crop": budget.crop,
        "pairs_learnt_from": budget.pairs,
        "epochs": budget.epochs,
        "paper_epochs": budget.paper_epochs,
        "demo": results.synthetic,
        "data_digest": results.data_digest,
        "profile": results.profile,
    }


def _changes(variant: VariantInfo) -> str:
    return ", ".join(f"{name} {value}" for name, value in flat_facts(variant.changes))


def _column(summary: AblationSummary, metric: Metric) -> list[Cell]:
    profile = summary.results.profile
    digits = decimals(metric, profile)
    means = [v.mean[metric.name] for v in summary.variants]
    figures = [printed(value_of(mean), metric, profile) for mean in means]
    marks = marks_of_printed(figures, higher_is_better=metric.higher_is_better)
    cells = []
    for v, mean, mark in zip(summary.variants, means, marks, strict=True):
        if mean is None:
            cells.append(Cell("n/a" if metric.name in summary.unavailable else MISSING))
            continue
        spread = v.spread[metric.name]
        parts = [f"{number(mean.low, digits)} to {number(mean.high, digits)}"] if mean.low is not None else []
        parts += [f"± {number(spread, digits)}"] if spread is not None else []
        cells.append(Cell(number(mean.value, digits), mark, mean.value, ", ".join(parts)))
    return cells


def _printed_marks(summary: AblationSummary, metric: Metric) -> list[Mark]:
    figures = [v.printed.get(metric.name) for v in summary.variants]
    return marks_of_printed(figures, higher_is_better=metric.higher_is_better)


def _millions(count: int | None) -> Cell:
    return Cell(MISSING) if count is None else Cell(f"{count / 1e6:.3f}", value=float(count))


def _signed(percent: float | None) -> str:
    """ "+1.2 %", "−30.7 %", "" for None."""
    return "" if percent is None else f"{percent:+.1f} %".replace("-", "−")
