"""The main table: mAP@50 of every method in the layout of Table VI of the S4Fusion paper, with uncertainty."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fusion_det.pipeline.results import ExperimentResults, MethodRun
from fusion_det.report.cautions import cautions
from fusion_det.report.formatting import MISSING, join_words, marks, p_value, percent, points
from fusion_det.report.provenance import weights_notes
from fusion_det.report.statistics import LEVEL
from fusion_det.report.summary import (
    Difference,
    MethodSummary,
    Summary,
    metric,
    shows_paper_figures,
    stamps,
)
from fusion_det.report.tables import Cell, Table

JSON_SCHEMA = "fusion_det/table_vi"
JSON_SCHEMA_VERSION = 1
PAPER = "S4Fusion paper, Table VI"


def table_vi(results: ExperimentResults, summary: Summary) -> Table:
    """Methods as columns, controls first; best bold, second best underlined."""
    methods = summary.methods
    rows = [(Cell("mAP50"), *_map_cells(methods))]
    if shows_paper_figures(results):
        paper = [None if m.info.table_vi is None else m.info.table_vi / 100 for m in methods]
        cells = [Cell(percent(v), mark, v) for v, mark in zip(paper, marks(paper), strict=True)]
        rows.append((Cell("paper"), *cells))

    def row(name: str, show: Callable[[MethodSummary], str]) -> None:
        rows.append((Cell(name), *(Cell(show(m)) for m in methods)))

    level = f"{100 * LEVEL:.0f} %"
    row("seeds", seeds_text)
    row(f"{level} low", lambda m: percent(m.low))
    row(f"{level} high", lambda m: percent(m.high))
    if summary.reference is not None:
        reference = summary.reference.info.abbreviation

        def of_difference(show: Callable[[Difference], str]) -> Callable[[MethodSummary], str]:
            return lambda m: MISSING if m.difference is None else show(m.difference)

        row(f"Δ {reference}", of_difference(lambda d: points(d.value)))
        row("Δ low", of_difference(lambda d: points(d.low)))
        row("Δ high", of_difference(lambda d: points(d.high)))
        row("p (Holm)", of_difference(lambda d: p_value(d.p_holm)))
        row("real?", of_difference(lambda d: verdict_text(d)))
    return Table(
        slug="table_vi",
        caption=f"mAP@50 (%) on the test images of {results.dataset.name}, by fusion method.",
        head=("", *(flagged(m, m.info.abbreviation) for m in methods)),
        rows=tuple(rows),
        notes=tuple(main_notes(results, summary)),
        stamps=stamps(results),
    )


def flagged(method: MethodSummary, name: str) -> str:
    """The name with a dagger if the method's weights may have seen test images."""
    return f"{name}†" if method.info.contaminated else name


def seeds_text(method: MethodSummary) -> str:
    """ "3", or "2/3" when a run failed."""
    total = len(method.ok) + len(method.failed)
    return str(total) if not method.failed else f"{len(method.ok)}/{total}"


def verdict_text(difference: Difference) -> str:
    return MISSING if difference.verdict == "untested" else difference.verdict


def main_notes(results: ExperimentResults, summary: Summary) -> list[str]:
    """What a reader must know to read the table, one sentence or two a note."""
    notes = []
    several = len(summary.seeds) > 1
    spread = "mean ± sample standard deviation over the detector's training seeds" if several else "one training seed"
    count = results.split.counts.get("test", 0)
    notes.append(
        f"mAP50: {spread}; best bold, second best underlined, as printed. {100 * LEVEL:.0f} % low and high: bootstrap "
        f"over the {count} test images{_units(summary)} ({summary.replicates} replicates), averaged over seeds."
    )
    notes += cautions(results, summary)
    if summary.reference is not None:
        notes.append(
            f"Δ: difference to {summary.reference.info.label}, the better of the single-sensor controls here, with the "
            "interval of the paired bootstrap (the same resampled images for both). The intervals are not adjusted for "
            f"the number of comparisons; p is, over {summary.family} fusions (Holm)."
        )
        notes.append(
            "real? “yes”: adjusted p below 0.05 and every training seed agrees on the sign; “one seed”: the images say yes, "
            "but training noise was not measured; “seeds disagree”: the images say yes, the seeds do not; “no”: not shown."
        )
    if shows_paper_figures(results):
        notes.append(
            f"paper: {PAPER}; another split of M3FD, one run, an older YOLOv5s. Compare differences between methods, "
            "not figures."
        )
    notes += weights_notes([m.info for m in summary.methods if m.ok], count, "test images")
    notes += [f"{m.info.label}: {failure_reason(m)}" for m in summary.failures]
    notes.append(
        f"Detector: {detector_text(results)}. Split {results.split.name}, digest {results.split.digest[:12]}; "
        f"data {results.dataset.content_digest[:12]}."
    )
    return notes


def _units(summary: Summary) -> str:
    groups = "" if summary.groups is None else f", {summary.groups} in all"
    if summary.unit == "run":
        return f", whole capture runs at a time{groups}"
    if summary.unit == "run or image":
        known = "" if summary.groups is None else f", {summary.groups} groups in all"
        return f", whole capture runs at a time where the run is known and single images elsewhere{known}"
    return ""


def failure_reason(method: MethodSummary) -> str:
    """Why a method has no figure (or fewer seeds), and how to get its weights."""
    if not method.failed:
        return "No run is recorded; start the experiment again to complete it."
    seeds = join_words([str(run.seed) for run in method.failed])
    which = f"Seed{'s' if len(method.failed) > 1 else ''} {seeds} failed" if method.ok else "No figure"
    reasons = " ".join(method.reasons)
    origin = ""
    if not method.ok and method.info.weights not in ("", "none needed") and method.info.weights not in reasons:
        origin = f" Weights: {method.info.weights}."
    return f"{which}: {reasons.rstrip('.')}.{origin}"


def detector_text(results: ExperimentResults) -> str:
    """Which detector was really trained, for how long."""
    detector = results.detector
    built = str(detector.get("built") or detector.get("model") or "unknown").removesuffix(".yaml").removesuffix(".pt")
    text = built
    if built.startswith("yolov5") and built.endswith("u"):
        text = f"{built}, the anchor-free model that ultralytics builds, not the anchor-based original of the paper"
    details = [f"{detector['epochs']} epochs"] if "epochs" in detector else []
    details += [f"{detector['imgsz']} px"] if "imgsz" in detector else []
    details += [f"batch {detector['batch']}"] if "batch" in detector else []
    return f"{text} ({', '.join(details)})" if details else text


def _map_cells(methods: tuple[MethodSummary, ...]) -> list[Cell]:
    cells = []
    for method, mark in zip(methods, marks([m.mean for m in methods]), strict=True):
        text = percent(method.mean) if method.mean is not None else method.without_figure
        note = f"± {percent(method.std)}" if method.std is not None else ""
        cells.append(Cell(text, mark, method.mean, note))
    return cells


TIDY_COLUMNS = (
    "experiment", "dataset", "dataset_digest", "split", "split_digest", "demo", "limit", "detector",
    "method", "label", "abbreviation", "family", "order", "weights", "weights_source", "trained_on", "contaminated",
    "images_trained_on",
    "seed", "status", "reason", "mAP50", "mAP50_95", "coco_AP50", "coco_AP50_95", "coco_AP75",
    "coco_AP_small", "coco_AP_medium", "coco_AP_large", "precision", "recall", "f1", "confidence",
    "best_epoch", "train_device", "train_precision", "train_seconds", "fuse_seconds_per_pair", "paper_mAP50",
)  # fmt: skip


def tidy_rows(results: ExperimentResults, summary: Summary) -> list[dict[str, Any]]:
    """One row a (method, seed); figures are fractions. A method without any run has one row without a seed."""
    rows = []
    for method in summary.methods:
        runs: list[MethodRun | None] = [r for r in results.runs if r.method == method.info.name]
        rows += [_tidy_row(results, method, run) for run in runs or [None]]
    return rows


def common_columns(results: ExperimentResults) -> dict[str, Any]:
    """What every row of every CSV says, so that a row alone cannot pass for what it is not."""
    return {
        "experiment": results.experiment,
        "dataset": results.dataset.name,
        "dataset_digest": results.dataset.content_digest,
        "split": results.split.name,
        "split_digest": results.split.digest,
        "demo": results.dataset.synthetic,
        "limit": results.dataset.limit,
        "detector": results.detector.get("built") or results.detector.get("model"),
    }


def _tidy_row(results: ExperimentResults, method: MethodSummary, run: MethodRun | None) -> dict[str, Any]:
    info = method.info
    row: dict[str, Any] = common_columns(results) | {
        "method": info.name,
        "label": info.label,
        "abbreviation": info.abbreviation,
        "family": info.family,
        "order": info.order,
        "weights": info.weights,
        "weights_source": info.weights_source,
        "trained_on": ";".join(info.trained_on) if info.trained_on_known else "not known",
        "contaminated": info.contaminated,
        "images_trained_on": info.images_trained_on,
        "fuse_seconds_per_pair": info.seconds_per_pair,
        "paper_mAP50": info.table_vi / 100 if info.table_vi is not None and shows_paper_figures(results) else None,
        "status": "not run" if run is None else run.status,
    }
    if run is not None:
        row |= {
            "seed": run.seed,
            "reason": run.reason,
            "best_epoch": run.best_epoch,
            "train_device": run.device,
            "train_precision": run.precision,
            "train_seconds": run.seconds.get("train"),
            "mAP50": metric(run, "mAP50"),
            "mAP50_95": metric(run, "mAP50_95"),
        }
        row |= {f"coco_{k}": metric(run, "coco", k) for k in ("AP50", "AP50_95", "AP75")}
        row |= {f"coco_AP_{k}": metric(run, "coco", f"AP_{k}") for k in ("small", "medium", "large")}
        row |= {k: metric(run, "operating_point", k) for k in ("precision", "recall", "f1", "confidence")}
    return row


def json_document(results: ExperimentResults, summary: Summary) -> dict[str, Any]:
    """table_vi.json: everything in the table, as fractions, under a schema version."""
    methods = [_method_json(results, m) for m in summary.methods]
    return {
        "schema": JSON_SCHEMA,
        "schema_version": JSON_SCHEMA_VERSION,
        **common_columns(results),
        "title": results.title,
        "stamps": list(stamps(results)),
        "confidence_level": LEVEL,
        "bootstrap_replicates": summary.replicates,
        "bootstrap_unit": summary.unit,
        "bootstrap_groups": summary.groups,
        "comparisons": summary.family,
        "reference": None if summary.reference is None else summary.reference.info.name,
        "notes": main_notes(results, summary),
        "methods": methods,
    }


def _method_json(results: ExperimentResults, m: MethodSummary) -> dict[str, Any]:
    return {
        "method": m.info.name,
        "label": m.info.label,
        "abbreviation": m.info.abbreviation,
        "family": m.info.family,
        "status": "ok" if m.ok and not m.failed else "partial" if m.ok else m.without_figure,
        "reasons": list(m.reasons),
        "weights": m.info.weights,
        "weights_source": m.info.weights_source,
        "trained_on": list(m.info.trained_on) if m.info.trained_on_known else None,
        "contaminated": m.info.contaminated,
        "images_trained_on": m.info.images_trained_on,
        "split_digest": results.split.digest,
        "seeds": {str(seed): value for seed, value in sorted(m.values.items())},
        "train_device": {str(run.seed): run.device for run in m.ok},
        "train_precision": {str(run.seed): run.precision for run in m.ok},
        "mAP50": m.mean,
        "mAP50_std": m.std,
        "mAP50_interval": None if m.low is None else [m.low, m.high],
        "mAP50_95": m.mean_of("mAP50_95"),
        "coco_AP50": m.mean_of("coco", "AP50"),
        "paper_mAP50": m.info.table_vi / 100 if m.info.table_vi is not None and shows_paper_figures(results) else None,
        "difference": None if m.difference is None else _difference_json(m.difference),
    }


def _difference_json(d: Difference) -> dict[str, Any]:
    return {
        "reference": d.reference,
        "value": d.value,
        "interval": None if d.low is None else [d.low, d.high],
        "excludes_zero": d.excludes_zero,
        "p": d.p,
        "p_holm": d.p_holm,
        "seeds_agreeing": d.seeds_agreeing,
        "seeds_common": d.seeds_common,
        "verdict": d.verdict,
    }
