"""From results to a folder a person wants to open."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from fusion_det.files import replace_atomically, write_json, write_text
from fusion_det.pipeline.results import ExperimentResults
from fusion_det.progress import NoProgress, Progress
from fusion_det.report.breakdowns import BREAKDOWNS, breakdown_rows, breakdown_table
from fusion_det.report.breakdowns import TIDY_COLUMNS as BREAKDOWN_COLUMNS
from fusion_det.report.figures import Figures, make_figures
from fusion_det.report.overlays import IOU_TEXT, Drawn, contact_sheet, draw_scene, images_present
from fusion_det.report.page import PagePanel, PageScene, render_page
from fusion_det.report.quality_view import of_experiment, write_association, write_quality, write_table
from fusion_det.report.scenes import TEST, Scene, choose_scenes, confidence_threshold
from fusion_det.report.summary import Summary, short_stamp, summarise
from fusion_det.report.svg import grid
from fusion_det.report.table_vi import TIDY_COLUMNS, json_document, table_vi, tidy_rows
from fusion_det.report.tables import Table, to_csv

logger = logging.getLogger(__name__)

PAGE_IMAGE_BYTES = 9_500_000
"""All pictures of the page together; as base64 text they take a third more."""
ENCODINGS = ((960, 80), (960, 62), (760, 62), (600, 58), (480, 52), (360, 45))
"""(width in pixels, WebP quality), best first."""


@dataclass(frozen=True)
class _Written:
    scenes: tuple[PageScene, ...]
    note: str


def build_report(results: ExperimentResults, out: Path, progress: Progress | None = None) -> Path:
    """Write the report of an experiment below ``out`` and return the path of its ``index.html``.

    Writes ``table_vi``, ``per_class``, ``per_condition``, ``per_size`` (md, csv, tex; the first also json), ``quality*`` where
    quality was measured, ``figures/*.svg``, ``overlays/STEM/METHOD.webp``, ``overlays/STEM.jpg`` and the page, each file
    atomically. The same results give the same bytes. Pictures that are no longer in the store are left out, and the page says so.
    """
    progress = progress or NoProgress()
    summary = summarise(results)
    choice = choose_scenes(results, summary)
    progress.start("report", total=len(choice.scenes) + 3)
    main = table_vi(results, summary)
    breakdowns = _write_tables(results, summary, main, out)
    progress.advance(note="tables")
    quality = of_experiment(results, summary)
    if quality is not None:
        write_quality(quality[0], out)
        write_association(quality[1], quality[0], out)
    figures = make_figures(results, summary)
    _write_figures(figures, summary, out / "figures")
    progress.advance(note="figures")
    written = _write_overlays(results, choice.scenes, out / "overlays", progress)
    notes = [note for note in (choice.note, written.note) if note]
    index = out / "index.html"
    write_text(index, render_page(results, summary, main, breakdowns, figures, written.scenes, notes, quality))
    progress.advance(note="page")
    progress.finish(str(index))
    return index


def _write_tables(results: ExperimentResults, summary: Summary, main: Table, out: Path) -> list[Table]:
    write_table(main, out)
    write_text(out / "table_vi.csv", to_csv(tidy_rows(results, summary), TIDY_COLUMNS))
    write_json(out / "table_vi.json", json_document(results, summary))
    tables = []
    for breakdown in BREAKDOWNS:
        table = breakdown_table(results, summary, breakdown)
        if table is not None:
            write_table(table, out)
            write_text(out / f"{breakdown.slug}.csv", to_csv(breakdown_rows(results, breakdown), BREAKDOWN_COLUMNS))
            tables.append(table)
    return tables


def _write_figures(figures: Figures, summary: Summary, out: Path) -> None:
    names = [m.info.label if m.ok else "" for m in summary.methods]
    write_text(out / "map50.svg", figures.intervals[0].file(summary.methods))
    if figures.precision_recall:
        write_text(out / "precision_recall.svg", grid(figures.precision_recall, 4, names).file(summary.methods))
    if figures.training:
        write_text(out / "training.svg", grid(figures.training, 4).file(summary.methods))


def _write_overlays(results: ExperimentResults, scenes: Sequence[Scene], out: Path, progress: Progress) -> _Written:
    shown = [scene for scene in scenes if images_present(scene)]
    note = ""
    if len(shown) < len(scenes):
        gone = ", ".join(scene.stem for scene in scenes if scene not in shown)
        note = f"Fused images of {gone} are no longer in the store; run the experiment again to have these overlays."
        logger.warning("%s", note)
    share = PAGE_IMAGE_BYTES // max(1, sum(len(s.panels) + 1 for s in shown))
    written, files = [], set()
    for scene in shown:
        stamp = scene_stamp(results, scene)
        drawn = draw_scene(scene, results.dataset.classes, stamp)
        caption = scene_caption(results, scene)
        panels = []
        for item in drawn:
            path = out / scene.stem / f"{item.key}.webp"
            _write_bytes(path, _webp(item.image, *ENCODINGS[0]))
            panels.append(_page_panel(item, share))
            files.add(path)
        sheet = out / f"{scene.stem}.jpg"
        with replace_atomically(sheet) as temporary:
            picture = contact_sheet(drawn, caption, stamp)
            picture.save(temporary, "JPEG", quality=88, subsampling=0)
        files.add(sheet)
        written.append(PageScene(scene.stem, scene.condition or "", part_name(scene), caption, tuple(panels)))
        progress.advance(note=f"overlay {scene.stem}")
    _remove_stale(out, files)
    return _Written(tuple(written), note)


SEEN = {
    "train": ("training image", "the detector has seen it"),
    "val": ("validation image", "the epoch to test was chosen with it"),
}
"""Part of the split → what an image of it is called, and why it is no test of the detector."""


def part_name(scene: Scene) -> str:
    """ "training image"; "" for a test image, which is what a scene is unless it says otherwise."""
    return "" if scene.part == TEST else SEEN[scene.part][0]


def scene_stamp(results: ExperimentResults, scene: Scene) -> str:
    """What is written into every picture of the scene, for pictures travel without their caption."""
    return " · ".join(filter(None, [short_stamp(results), part_name(scene).upper()]))


def scene_caption(results: ExperimentResults, scene: Scene) -> str:
    """What a reader must know to read the boxes of a scene."""
    seeds = sorted({panel.seed for panel in scene.panels})
    condition = f", {scene.condition}" if scene.condition else ""
    kind, seen = "test image", ""
    if scene.part != TEST:
        kind, reason = SEEN[scene.part]
        seen = f": {reason}, and it counts in no figure"
    return (
        f"{kind.capitalize()} {scene.stem}{condition} ({scene.why}){seen}. Detections of confidence "
        f"{confidence_threshold(results):g} or more; {IOU_TEXT}; detector seed {', '.join(map(str, seeds))}."
    )


def _page_panel(item: Drawn, share: int) -> PagePanel:
    """The best encoding that stays within its share of the page."""
    for width, quality in ENCODINGS:
        data = _webp(item.image, width, quality)
        if len(data) <= share:
            break
    with Image.open(io.BytesIO(data)) as image:
        size = image.size
    return PagePanel(item.key, item.title, item.caption, data, size)


def _webp(image: Image.Image, width: int, quality: int) -> bytes:
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=3)
    return buffer.getvalue()


def _write_bytes(path: Path, data: bytes) -> None:
    with replace_atomically(path) as temporary:
        temporary.write_bytes(data)


def _remove_stale(folder: Path, files: set[Path]) -> None:
    """Take away the overlays of an earlier report in the same folder, and nothing else."""
    for path in [*folder.glob("*.jpg"), *folder.glob("*/*.webp")]:
        if path not in files:
            path.unlink()
    for sub in [path for path in folder.glob("*") if path.is_dir() and not any(path.iterdir())]:
        sub.rmdir()
