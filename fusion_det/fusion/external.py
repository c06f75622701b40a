"""``NAME=FOLDER``: images somebody fused already, as a row of the table like any other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fusion_det.errors import MethodError, Problem
from fusion_det.fusion.method import MethodCard
from fusion_det.fusion.spec import MethodSpec
from fusion_det.progress import NoProgress, Progress

if TYPE_CHECKING:
    import numpy as np

    from fusion_det.data.pair import PairRecord


def external_card(spec: MethodSpec) -> MethodCard:
    """The card of somebody's images: all that is known of them is where they lie."""
    return MethodCard(
        name=spec.name,
        label=spec.name,
        abbreviation=spec.name,
        title=f"Images fused elsewhere, from {spec.folder}",
        family="external",
        fuses="rgb",
        order=10_000,
        notes="Fused outside this project: how, and with weights trained on what, is not known.",
    )


@dataclass(frozen=True)
class ExternalImages:
    """A folder of fused images, one per stem: PNG, JPEG, BMP, TIFF or WebP, grey or colour, 8 or 16 bits.

    They are taken as they are. A grey image stays grey (its chroma is not taken from the visible image, for nobody said
    that it should be); with ``color="gray"`` a colour image gives its luma. 8-bit RGB images keep their pixels exactly.
    """

    card: MethodCard
    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        """Stem → image file, as the folder was when this was first asked."""
        from fusion_det.data.layout import list_images

        return list_images(self.folder, [])

    def check(
        self, records: Sequence[PairRecord], workers: int = 2, progress: Progress | None = None
    ) -> dict[str, Path]:
        """Stem → file for every record, each file decoded once to see that it can be.

        Raises:
            MethodError: lists every stem without an image, every stem with several, every unreadable image and every one
                that is not of its pair's size.
        """
        from fusion_det.data.layout import list_images

        doubles: list[Problem] = []
        found = list_images(self.folder, doubles)
        wanted = {record.stem for record in records}
        problems = [str(double) for double in doubles if double.file.stem in wanted or double.file == self.folder]
        missing = sorted(wanted - found.keys())
        if missing:
            problems.append(f"no image for {len(missing)} of {len(wanted)} pairs: {', '.join(missing)}")
        present = [(record, found[record.stem]) for record in records if record.stem in found]
        shown = progress or NoProgress()
        shown.start(f"checking {self.card.name}", len(present))
        with ThreadPoolExecutor(workers) as pool:
            for problem in pool.map(lambda item: _problem(*item), present):
                problems += [problem] if problem else []
                shown.advance()
        shown.finish()
        if problems:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            raise MethodError(
                f"{self.card.name}={self.folder} cannot be used:{listed}\nEvery pair needs one readable image named "
                "after it (STEM.png), of exactly its size."
            )
        return {record.stem: file for record, file in present}

    def read(self, file: Path, *, gray: bool) -> np.ndarray:
        """An image as uint8 (H,W,3) RGB, or (H,W) BT.601 luma. DatasetError if it has become unreadable."""
        import torch

        from fusion_det.data.images import read_grey, read_rgb
        from fusion_det.fusion.frame import to_eight_bit

        if gray:
            return to_eight_bit(torch.from_numpy(read_grey(file))).numpy()
        return to_eight_bit(torch.from_numpy(read_rgb(file))).numpy()


def _problem(record: PairRecord, file: Path) -> str | None:
    from fusion_det.data.images import UnusableImageError, inspect_image

    try:
        facts = inspect_image(file)
    except UnusableImageError as error:
        return f"{file}: {error}"
    if (facts.width, facts.height) != (record.width, record.height):
        return f"{file}: is {facts.width}×{facts.height}, but its pair is {record.width}×{record.height}"
    return None
