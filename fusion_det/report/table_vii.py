"""What fusing costs, in the manner of Table VII of the S4Fusion paper: parameters, operations, time and memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusion_det.efficiency.paper import SIZE, TABLE_VII, PaperFigures
from fusion_det.files import write_json, write_text
from fusion_det.report.formatting import MISSING, join_words
from fusion_det.report.tables import Cell, Table, to_csv, to_latex, to_markdown

if TYPE_CHECKING:
    from fusion_det.efficiency.assessment import Cost
    from fusion_det.efficiency.flops import FlopCount
    from fusion_det.efficiency.settings import EfficiencySettings

JSON_SCHEMA = "fusion_det/table_vii"
JSON_SCHEMA_VERSION = 1
SLUG = "table_vii"
INAPPLICABLE = Cell("n/a")
UNKNOWN = Cell(MISSING)
SHORTEST = 0.1
"""Milliseconds. What takes less does nothing but hand tensors on."""
COLUMNS = (
    *("method", "label", "config", "height", "width", "padded_height", "padded_width"),
    *("parameters", "parameters_used", "flops", "flops_layers", "flops_by_torch", "flops_convolutions"),
    *("flops_products", "flops_attention", "flops_scans", "flops_scans_exact"),
    *("device", "dtype", "threads", "trained", "calls", "seconds_low", "seconds", "seconds_high"),
    *("memory", "memory_peak", "memory_exact", "paper_gflops", "paper_parameters_m", "problem"),
)


def table_vii(costs: Sequence[Cost], settings: EfficiencySettings) -> Table:
    """A row for every method and configuration; the paper's figures in the last columns at the paper's size."""
    head = ["", "params [M]", "used [M]", "layers [G]", "by torch [G]", "scans [G]", "GFLOPs"]
    if settings.measure:
        head += ["time [ms]", "memory [MiB]"]
    with_paper = _shows_paper(settings)
    if with_paper:
        head += ["paper GFLOPs", "paper params [M]"]
    height, width = settings.size
    return Table(
        slug=SLUG,
        caption=f"What fusing one pair of {height}×{width} pixels (height × width) costs, by fusion method.",
        head=tuple(head),
        rows=tuple(_row(cost, measured=settings.measure, with_paper=with_paper) for cost in costs),
        notes=tuple(notes(costs, settings)),
    )


def write_table_vii(
    costs: Sequence[Cost], settings: EfficiencySettings, provenance: dict[str, Any], out: Path
) -> Table:
    """Write ``table_vii.{md,tex,csv,json}`` into ``out`` and return the table."""
    table = table_vii(costs, settings)
    write_text(out / f"{SLUG}.md", to_markdown(table))
    write_text(out / f"{SLUG}.tex", to_latex(table))
    rows = [_tidy_row(cost, settings) for cost in costs]
    write_text(out / f"{SLUG}.csv", to_csv(rows, COLUMNS))
    for row, cost in zip(rows, costs, strict=True):
        row["seconds_all"] = [] if cost.measurement is None else list(cost.measurement.seconds)
        row["unused"] = {} if cost.parameters is None else dict(cost.parameters.unused)
    document = {
        "schema": JSON_SCHEMA,
        "schema_version": JSON_SCHEMA_VERSION,
        "settings": settings.model_dump(mode="json"),
        "provenance": provenance,
        "notes": list(table.notes),
        "methods": rows,
    }
    write_json(out / f"{SLUG}.json", document)
    return table


def name_of(cost: Cost) -> str:
    """ "S4Fusion", or "S4Fusion (paper)" for a variant that is not the default one."""
    plain = cost.config is None or cost.config == cost.card.configs[0]
    return cost.card.label if plain else f"{cost.card.label} ({cost.config})"


def _shows_paper(settings: EfficiencySettings) -> bool:
    return settings.size == SIZE


def _paper(cost: Cost) -> PaperFigures | None:
    """The paper's figures of a method, which are those of its default configuration."""
    return TABLE_VII.get(cost.card.name) if name_of(cost) == cost.card.label else None


def _row(cost: Cost, *, measured: bool, with_paper: bool) -> tuple[Cell, ...]:
    cells = [Cell(name_of(cost)), *_parameter_cells(cost), *_flop_cells(cost)]
    if measured:
        cells += _measured_cells(cost)
    if with_paper:
        paper = _paper(cost)
        cells += [UNKNOWN, UNKNOWN] if paper is None else [_giga(paper.gflops * 1e9), _number(paper.parameters, "g")]
    return tuple(cells)


def _parameter_cells(cost: Cost) -> list[Cell]:
    count = cost.parameters
    if count is None:
        return [UNKNOWN, UNKNOWN]
    if cost.flops is None:
        return [_number(0, "g"), _number(0, "g")]
    used = INAPPLICABLE if count.used is None else _number(count.used / 1e6, ".3f")
    return [_number(count.total / 1e6, ".3f"), used]


def _flop_cells(cost: Cost) -> list[Cell]:
    count = cost.flops
    if count is None:
        return [UNKNOWN if cost.parameters is None else INAPPLICABLE] * 4
    return [_giga(count.layers), _giga(count.by_torch), _giga(count.scans), _giga(count.total)]


def _measured_cells(cost: Cost) -> list[Cell]:
    result = cost.measurement
    if result is None:
        return [UNKNOWN, UNKNOWN]
    low, middle, high = (1000 * seconds for seconds in result.quartiles)
    memory = INAPPLICABLE
    if result.memory is not None:
        bound = "" if result.memory_exact else "≤ "
        memory = Cell(f"{bound}{result.memory / 2**20:.0f}", value=result.memory / 2**20)
    spread = "" if high < SHORTEST else f"({_milliseconds(low)} to {_milliseconds(high)})"
    return [Cell(_milliseconds(middle), value=middle, note=spread), memory]


def _milliseconds(value: float) -> str:
    """Three digits, where the clock and the loop around the call allow so many."""
    if value < SHORTEST:
        return f"<{SHORTEST:g}"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _number(value: float, form: str) -> Cell:
    return Cell(f"{value:{form}}", value=value)


def _giga(operations: float) -> Cell:
    return _number(operations / 1e9, ".2f")


def notes(costs: Sequence[Cost], settings: EfficiencySettings) -> list[str]:
    """What a reader must know to read the table."""
    found = [_size_note(costs, settings), *_counting_notes(costs)]
    if settings.measure:
        found += _measuring_notes(costs, settings)
    found += _paper_notes(costs, settings)
    found += [f"{name_of(cost)}: {cost.problem}" for cost in costs if cost.problem]
    return [note for note in found if note]


def _size_note(costs: Sequence[Cost], settings: EfficiencySettings) -> str:
    padded = [f"{name_of(c)} {c.size[0]}×{c.size[1]}" for c in costs if c.size != settings.size]
    return f"Padded, as when fusing, to the size a method takes: {join_words(padded)}." if padded else ""


def _counting_notes(costs: Sequence[Cost]) -> list[str]:
    found = [
        "params: all parameters of the network; used: those that a path of the gradient joins to the output. GFLOPs: billions "
        "of floating-point operations, a multiply-add being two: layers (convolutions, linear layers, matrix products, "
        "attention) and selective scans, by the usual 9 operations a step, channel and state. As usual, norms, activations and "
        "element-wise arithmetic do not count. n/a: no network; all of its arithmetic is of the kinds that do not count."
    ]
    counted = [(name_of(cost), cost.flops) for cost in costs if cost.flops is not None]
    if counted:
        apart = [f"{name} {_apart(flops)}" for name, flops in counted if flops.layers != flops.by_torch]
        verdict = f"they differ for {join_words(apart)}" if apart else "they agree to the last operation"
        found.append(f"by torch: the layers by torch.utils.flop_counter, with formulas of its own; {verdict}.")
    scans = [f"{name} {flops.scans_exact / 1e9:.2f} G" for name, flops in counted if flops.scans]
    if scans:
        found.append(f"The recurrence of the scans itself asks for less than the rule says: {join_words(scans)}.")
    for cost in costs:
        if cost.parameters is not None and cost.parameters.unused:
            parts = [f"{name} ({size})" for name, size in cost.parameters.unused]
            found.append(f"{name_of(cost)}: parameters that its output does not depend on: {join_words(parts)}.")
    return found


def _apart(flops: FlopCount) -> str:
    return f"({(flops.by_torch - flops.layers) / max(flops.layers, 1):+.2%})".replace("-", "−")


def _measuring_notes(costs: Sequence[Cost], settings: EfficiencySettings) -> list[str]:
    results = [cost.measurement for cost in costs if cost.measurement is not None]
    if not results:
        return []
    where = join_words(list(dict.fromkeys(result.device for result in results)))
    threads = join_words(list(dict.fromkeys(str(result.threads) for result in results)))
    calls = min(len(result.seconds) for result in results), max(len(result.seconds) for result in results)
    repeated = str(calls[1]) if calls[0] == calls[1] else f"{calls[0]} to {calls[1]}"
    in_float32 = [name_of(c) for c in costs if c.measurement is not None and c.measurement.dtype != settings.dtype]
    exceptions = f" (those without a network in float32: {join_words(in_float32)})" if in_float32 else ""
    untrained = [name_of(c) for c in costs if c.measurement is not None and not c.measurement.trained]
    found = [
        f"time: median (and quartiles) of {repeated} calls after {settings.warmup} to warm up; {where}, {threads} CPU "
        f"threads, {settings.dtype}{exceptions}. The method alone, one pair, already padded and on the device: no reading, "
        "colour conversion or writing. memory: the most it took above what its process had taken before, weights and "
        "sources among it. Each method in a process of its own."
    ]
    if any(not result.memory_exact for result in results):
        found.append("memory ≤: this system tells the peak of a process' whole life only.")
    if untrained:
        found.append(f"Timed with untrained weights, on which time does not depend: {join_words(untrained)}.")
    return found


def _paper_notes(costs: Sequence[Cost], settings: EfficiencySettings) -> list[str]:
    theirs = [(name_of(cost), paper) for cost in costs if (paper := _paper(cost)) is not None]
    if not theirs:
        return []
    if not _shows_paper(settings):
        return [f"The paper's Table VII is for {SIZE[0]}×{SIZE[1]} and is not shown at another size."]
    found = [
        "paper: S4Fusion paper (arXiv:2405.20881), Table VII; it names no counter, and does not say whether a multiply-add is "
        "one operation or two, or whether scans are among them."
    ]
    single = [
        f"{name_of(cost)} {cost.flops.layers / 2e9:.2f} G (paper {paper.gflops:g} G)"
        for cost in costs
        if cost.flops is not None and (paper := _paper(cost)) is not None
    ]
    if single:
        found.append(f"With a multiply-add as one operation ours, scans left out, are: {join_words(single)}.")
    return found + [f"{name}: {paper.reason}" for name, paper in theirs if paper.reason]


def _tidy_row(cost: Cost, settings: EfficiencySettings) -> dict[str, Any]:
    paper = _paper(cost) if _shows_paper(settings) else None
    row: dict[str, Any] = {
        "method": cost.card.name,
        "label": cost.card.label,
        "config": cost.config,
        "height": settings.size[0],
        "width": settings.size[1],
        "padded_height": cost.size[0],
        "padded_width": cost.size[1],
        "paper_gflops": None if paper is None else paper.gflops,
        "paper_parameters_m": None if paper is None else paper.parameters,
        "problem": cost.problem or None,
    }
    if cost.parameters is not None:
        row |= {"parameters": cost.parameters.total, "parameters_used": cost.parameters.used}
    if (flops := cost.flops) is not None:
        row |= {"flops": flops.total, "flops_layers": flops.layers, "flops_by_torch": flops.by_torch}
        row |= {
            f"flops_{kind}": getattr(flops, kind)
            for kind in ("convolutions", "products", "attention", "scans", "scans_exact")
        }
    if (result := cost.measurement) is not None:
        low, middle, high = result.quartiles
        row |= {"seconds_low": low, "seconds": middle, "seconds_high": high, "calls": len(result.seconds)}
        row |= {
            key: getattr(result, key)
            for key in ("device", "dtype", "threads", "trained", "memory", "memory_peak", "memory_exact")
        }
    return row
