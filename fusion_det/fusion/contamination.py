"""Whether weights have learnt from the images that a method is judged by."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from fusion_det.data.cards import read_cards
from fusion_det.data.leakage import numbered
from fusion_det.data.pair import PairDataset
from fusion_det.fusion.method import MethodCard
from fusion_det.fusion.training_card import LearntPairs
from fusion_det.fusion.weights import FoundWeights


@dataclass(frozen=True)
class Exposure:
    """What weights have learnt from.

    datasets: by family; None: nobody says. seen: how many of the images judged by; None: not known, though some may be.
    """

    datasets: tuple[str, ...] | None
    seen: int | None

    @property
    def contaminated(self) -> bool:
        """Whether some of the images were learnt from, or may have been going by the names of the datasets."""
        return self.datasets is not None and self.seen != 0


def exposure(card: MethodCard, found: FoundWeights | None, dataset: PairDataset, stems: Collection[str]) -> Exposure:
    """What is known of these images and a method's weights.

    Official weights are known by the datasets that their authors name, others by the card of their training.

    Args:
        found: the weights in use; None where there are none, or none are needed. stems: of the images, in ``dataset``.
    """
    if card.weights is None or found is None:
        return Exposure((), 0)
    family = dataset.family or dataset.name
    if found.source == "official":
        datasets = card.weights.trained_on
        return Exposure(datasets or None, None if not datasets or family in datasets else 0)
    if found.training is None:
        return Exposure(None, None)
    counts = [_shared(used, dataset, stems) for used in found.training.data if used.synthetic == dataset.synthetic]
    known = [count for count in counts if count is not None]
    return Exposure(found.training.families, sum(known) if len(known) == len(counts) else None)


def _shared(used: LearntPairs, dataset: PairDataset, stems: Collection[str]) -> int | None:
    """How many of the pairs were learnt from; None if some may have been.

    Ids decide within a family of datasets. Two datasets that are both known (with a card in ``datasets/``) and differ share no
    pair. Where one of them is not known, or numbers are the same under other prefixes (RoadScene's "FLIR_00006" is
    "FLIR_video_00006" too), equal ids prove nothing.
    """
    family = dataset.family or dataset.name
    same = family == used.family or dataset.content_digest == used.content_digest
    if not same and {family, used.family} <= read_cards().keys():
        return 0
    shared = used.train.intersection(stems)
    if same and shared:
        return len(shared)
    doubtful = _numbers(used.train) & _numbers(stems) if same else shared
    return None if doubtful else 0


def _numbers(stems: Collection[str]) -> set[int]:
    return {found[1] for stem in stems if (found := numbered(stem)) is not None}
