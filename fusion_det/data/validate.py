"""From a listing to a dataset: every image decoded once, every box checked, every problem reported at once."""

from __future__ import annotations

from pathlib import Path

from fusion_det.data.annotation import Annotation, validated_boxes
from fusion_det.data.facts import FactsCache, gather_facts
from fusion_det.data.images import ImageFacts
from fusion_det.data.m3fd import family_of
from fusion_det.data.pair import Boxes, PairDataset, PairRecord
from fusion_det.data.readers import Listing
from fusion_det.errors import DatasetError, Problem
from fusion_det.files import digest_json
from fusion_det.progress import Progress
from fusion_det.tasks import Task


def build_dataset(listing: Listing, *, limit: int | None, cache_dir: Path | None, progress: Progress) -> PairDataset:
    """Check everything the listing names and build the dataset.

    limit: use the first N pairs by stem, of those with boxes if the dataset has boxes at all (an unannotated pair can
        neither train nor test a detector). The structure of the whole dataset is still checked, images only of those N.

    Raises:
        DatasetError: with every problem found.
    """
    pairs = _limited(listing, limit)
    problems = listing.problems
    cache = FactsCache.load(cache_dir, listing.root)
    files = [file for _, ir, vi in pairs for file in (ir, vi)]
    facts = gather_facts(files, cache, progress, problems)
    records: list[PairRecord] = []
    contents: list[object] = []
    for stem, ir, vi in pairs:
        infrared, visible = facts.get(ir), facts.get(vi)
        annotation = listing.annotations.get(stem)
        size = _agreed_size(infrared, visible, ir, vi, annotation, problems, listing.task)
        if size is None or infrared is None or visible is None:
            continue
        width, height = size
        boxes = (
            validated_boxes(annotation, width, height, listing.classes, problems) if annotation is not None else None
        )
        condition, run = listing.conditions.get(stem), listing.runs.get(stem)
        content = digest_json([infrared.sha256, visible.sha256])
        records.append(PairRecord(stem, ir, vi, width, height, boxes, condition, run, content, listing.task.name))
        contents.append([stem, infrared.sha256, visible.sha256, boxes_content(boxes), condition, run])
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        raise DatasetError(
            f"The dataset {listing.name} at {listing.root} cannot be used: {count}.",
            problems,
            "Mend or remove these files and try again.",
        )
    kept = {record.stem for record in records}
    splits = {part: tuple(s for s in stems if s in kept) for part, stems in listing.official_splits.items()}
    return PairDataset(
        name=listing.name,
        root=listing.root,
        classes=listing.classes,
        records=tuple(records),
        content_digest=digest_json({"classes": listing.classes, "pairs": contents, "official_splits": splits}),
        official_splits=splits,
        synthetic=listing.synthetic,
        limit=limit,
        family=listing.name if listing.synthetic else family_of(listing.name, [stem for stem, _, _ in listing.pairs]),
        task=listing.task.name,
    )


def boxes_content(boxes: Boxes | None) -> list[list[float]] | None:
    """Boxes as plain numbers for a digest."""
    if boxes is None:
        return None
    return [[int(label), *row] for label, row in zip(boxes.labels, boxes.xyxy.tolist(), strict=True)]


def _limited(listing: Listing, limit: int | None) -> list[tuple[str, Path, Path]]:
    pairs = [(stem, ir.absolute(), vi.absolute()) for stem, ir, vi in listing.pairs]
    if limit is None:
        return pairs
    if limit < 1:
        raise DatasetError(f"A limit of {limit} pairs leaves nothing.", cure="Use --limit 1 or more.")
    labelled = [pair for pair in pairs if pair[0] in listing.annotations]
    return (labelled or pairs)[:limit]


def _agreed_size(
    infrared: ImageFacts | None,
    visible: ImageFacts | None,
    ir: Path,
    vi: Path,
    annotation: Annotation | None,
    problems: list[Problem],
    task: Task,
) -> tuple[int, int] | None:
    """Width and height that both images and the annotation agree on; None (and problems) if they do not."""
    if infrared is None or visible is None:
        return None
    size = (infrared.width, infrared.height)
    if (visible.width, visible.height) != size:
        problems.append(
            Problem(
                vi, f"is {visible.width}×{visible.height}, its {task.sources[0]} twin {ir.name} is {size[0]}×{size[1]}"
            )
        )
        return None
    if annotation is not None:
        declared = (annotation.width or size[0], annotation.height or size[1])
        if declared != size:
            told = f"says {declared[0]}×{declared[1]}, the images {ir.stem} are {size[0]}×{size[1]}"
            problems.append(Problem(annotation.file, told))
            return None
    return size
