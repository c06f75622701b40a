"""The ``quality`` stage: the fused images of one method, measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion_det.assessment.measure import Protocol
from fusion_det.data.pair import PairRecord
from fusion_det.files import digest_json
from fusion_det.fusion.identity import folder_signature
from fusion_det.pipeline.stage import Estimate, Stage, StageContext
from fusion_det.pipeline.stages import Cancellable
from fusion_det.pipeline.versions import code_digest, library_versions
from fusion_det.quality.table import METRICS

VALUES = "quality.json"
CODE = (
    *(f"fusion_det.quality.{name}" for name in (
        "comparison", "edges", "evaluation", "fidelity", "gradients", "intensity", "learned", "similarity", "table", "windows",
    )),
    "fusion_det.assessment.images",
    "fusion_det.assessment.measure",
    "fusion_det.data.color",
    "fusion_det.data.images",
    "fusion_det.fusion.filters",
)  # fmt: skip
"""Modules that decide a value."""
_JOURNAL = "measured.jsonl"


def quality_stage(name: str, records: Sequence[PairRecord], protocol: Protocol, fused: Stage | Path) -> Stage:
    """``quality``: values of every pair's fused image, ``quality.json``; a killed one continues after its last image.

    Args:
        name: the method.
        records: the pairs to measure.
        fused: the ``fuse`` stage of the method, or a folder of somebody's images (read where they are, never copied).
    """

    def run(context: StageContext) -> dict[str, Any]:
        from fusion_det.assessment.images import check_fused, check_sources
        from fusion_det.assessment.measure import Triple, load_scorers, measure_images, write_values

        folder = fused if isinstance(fused, Path) else context.inputs["fused images"] / "images"
        check_sources(records)
        files = check_fused(name, folder, records)
        triples = [Triple(record.stem, record.ir, record.vi, files[record.stem]) for record in records]
        scorers, unavailable = load_scorers(protocol.metrics)
        journal = context.work / _JOURNAL
        progress = Cancellable(context.progress, context.cancelled)
        measured = measure_images(triples, protocol, journal, progress, workers=context.slot.threads, scorers=scorers)
        write_values(context.work / VALUES, protocol, measured, unavailable)
        journal.unlink()
        return {"images": len(measured), "unavailable": unavailable}

    outside = {"fused images": folder_signature(fused)} if isinstance(fused, Path) else {}
    identity = {
        "metrics": list(protocol.metrics),
        "profile": protocol.profile,
        "saving": protocol.saving,
        "pairs": digest_json([[r.stem, r.content] for r in records]),
        "code": code_digest(*CODE),
        "versions": library_versions("torch", "numpy", "pillow"),
        **_learned_identity(protocol),
        **outside,
    }
    pixels = sum(record.width * record.height for record in records)
    return Stage(
        "quality",
        name if protocol.saving == "lossless" else f"{name} {protocol.saving}",
        identity,
        {} if isinstance(fused, Path) else {"fused images": fused},
        run,
        heavy=True,
        estimate=Estimate(seconds=pixels * 3e-8 * len(protocol.metrics), bytes=300 * len(records)),
    )


def _learned_identity(protocol: Protocol) -> dict[str, Any]:
    """What a column of a network depends on besides the images: the library, and whether its weights are in place."""
    learned = [m.name for m in METRICS if m.learned and m.name in protocol.metrics]
    if not learned:
        return {}
    from fusion_det.quality.learned import weights_file

    files = {name: weights_file(name) for name in learned}
    stamps = {name: file.stat().st_size if file.is_file() else None for name, file in files.items()}
    return {"learned": {"weights": stamps, "versions": library_versions("pyiqa")}}
