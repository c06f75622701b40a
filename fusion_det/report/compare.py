"""Two experiments side by side, where that is honest."""

from __future__ import annotations

from fusion_det.errors import ConfigError
from fusion_det.pipeline.results import ExperimentResults
from fusion_det.report.cautions import device_kind
from fusion_det.report.formatting import MISSING, interval, join_words, percent, points
from fusion_det.report.summary import MethodSummary, difference_between, resampling, stamps, summarise
from fusion_det.report.table_vi import flagged, seeds_text
from fusion_det.report.tables import Cell, Table, to_markdown

HARMLESS = frozenset({"workers", "cache", "weights_file"})
"""Detector settings that may differ without a warning: they say where and how fast, not what.

Two machines never have the same absolute ``weights_file``; whether it is the same file is for ``weights_sha256`` to say.
"""


def compare_reports(a: ExperimentResults, b: ExperimentResults) -> str:
    """A Markdown table of both experiments' mAP50 and the difference ``b`` minus ``a`` for every method of either.

    Where the detector's settings differ there is a warning above the table, because then the difference is not the
    method's.

    Raises:
        ConfigError: the two were tested on different images or annotations, so that their rows may not meet.
    """
    _refuse_other_data(a, b)
    first, second = ({m.info.name: m for m in summarise(r).methods} for r in (a, b))
    names = list(dict.fromkeys([*first, *second]))
    rows = tuple(_row(first.get(name), second.get(name)) for name in names)
    table = Table(
        slug="compare",
        caption=f"mAP@50 (%) of A = {a.experiment} and B = {b.experiment} on the same test images of {a.dataset.name}.",
        head=("Method", "A", "seeds A", "B", "seeds B", "B − A", "95 % of B − A", "seeds agreeing"),
        rows=rows,
        notes=(
            "B − A with the interval of the paired bootstrap over test images; not adjusted for the number of rows. "
            "Seeds agreeing: common training seeds in which the difference has its sign.",
            f"Split {a.split.name}, digest {a.split.digest[:12]}; data {a.dataset.content_digest[:12]}.",
        ),
        stamps=tuple(dict.fromkeys([*stamps(a), *stamps(b)])),
    )
    warnings = [f"> **Warning:** {text}\n\n" for text in _warnings(a, b, first, second)]
    return "".join(warnings) + to_markdown(table)


def _refuse_other_data(a: ExperimentResults, b: ExperimentResults) -> None:
    problems = []
    if a.dataset.content_digest != b.dataset.content_digest:
        problems.append(
            f"the data differ: {a.dataset.name} {a.dataset.content_digest[:12]} "
            f"and {b.dataset.name} {b.dataset.content_digest[:12]}"
        )
    if a.split.digest != b.split.digest:
        problems.append(
            f"the splits differ: {a.split.name} seed {a.split.seed} {a.split.digest[:12]} "
            f"and {b.split.name} seed {b.split.seed} {b.split.digest[:12]}"
        )
    if problems:
        raise ConfigError(
            f"{a.experiment} and {b.experiment} may not stand in one table: {join_words(problems)}. A figure from other test "
            "images differs for that reason alone. Run one of them again on the other's data and split (--data, "
            "--split-file), or read the two reports side by side and compare differences between methods within each."
        )


def _row(a: MethodSummary | None, b: MethodSummary | None) -> tuple[Cell, ...]:
    shown = a or b
    if shown is None:
        raise ValueError("a row needs a method")
    cells = [Cell(flagged(shown, shown.info.label))]
    for method in (a, b):
        if method is None:
            cells += [Cell("not run"), Cell(MISSING)]
        else:
            text = percent(method.mean) if method.mean is not None else method.without_figure
            note = f"± {percent(method.std)}" if method.std is not None else ""
            cells += [Cell(text, note=note), Cell(seeds_text(method))]
    if a is None or b is None or a.mean is None or b.mean is None:
        return (*cells, Cell(MISSING), Cell(MISSING), Cell(MISSING))
    d = difference_between(b, a)
    agreeing = f"{d.seeds_agreeing} of {d.seeds_common}" if d.seeds_common else MISSING
    return (*cells, Cell(points(d.value)), Cell(interval(d.low, d.high, signed=True)), Cell(agreeing))


def _warnings(
    a: ExperimentResults, b: ExperimentResults, first: dict[str, MethodSummary], second: dict[str, MethodSummary]
) -> list[str]:
    keys = sorted((a.detector.keys() | b.detector.keys()) - HARMLESS)
    changed = [
        f"{key} {a.detector.get(key, MISSING)} → {b.detector.get(key, MISSING)}"
        for key in keys
        if a.detector.get(key) != b.detector.get(key)
    ]
    out = []
    if changed:
        out.append(
            f"the detector's settings differ ({join_words(changed)}), so a difference is not the method's alone."
        )
    other = [m.info.label for n, m in first.items() if n in second and m.info.weights != second[n].info.weights]
    if other:
        out.append(f"the fusion weights of {join_words(other)} differ.")
    trained = [
        m.info.label
        for n, m in first.items()
        if n in second and m.ok and second[n].ok and _trained_on(m) != _trained_on(second[n])
    ]
    if trained:
        out.append(
            f"the detectors of {join_words(trained)} were trained in another precision or on another kind of device."
        )
    unpaired = [
        m.info.label
        for n, m in first.items()
        if n in second and m.ok and second[n].ok and resampling(m.ok) != resampling(second[n].ok)
    ]
    if unpaired:
        out.append(
            f"the bootstraps of {join_words(unpaired)} drew other images, so their differences have no interval."
        )
    libraries = [r.provenance.get("versions") or {} for r in (a, b)]
    moved = [
        f"{name} {libraries[0].get(name, MISSING)} → {libraries[1].get(name, MISSING)}"
        for name in ("ultralytics", "torch", "numpy", "fusion_det")
        if libraries[0].get(name) != libraries[1].get(name)
    ]
    if moved:
        out.append(f"library versions differ ({join_words(moved)}).")
    return out


def _trained_on(method: MethodSummary) -> set[tuple[str, str]]:
    return {(run.precision, device_kind(run)) for run in method.ok}
