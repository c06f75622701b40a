"""How sure a classifier is of fused images: the entropy that the perception loss makes smaller (S4Fusion, Eq. 14 and Fig. 13)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch

from fusion_det.assessment.images import grey_levels, read_pixels
from fusion_det.fusion.training.classifiers import Classifier
from fusion_det.fusion.training.losses import entropy
from fusion_det.progress import NoProgress, Progress


def image_entropies(images: Iterable[torch.Tensor], classifier: Classifier) -> Iterator[float]:
    """Entropy in nats of the classifier's softmax for each image, between 0 (certain) and log(classes) (no idea).

    Args:
        images: (1,H,W) grey in [0,1] each, of any sizes. The classifier sees all of an image, at its own size.
    """
    device = classifier.mean.device
    for image in images:
        with torch.inference_mode():
            yield float(entropy(classifier(image[None].to(device)))[0])


def file_entropies(
    files: Mapping[str, Path], classifier: Classifier, progress: Progress | None = None
) -> dict[str, float]:
    """Stem → entropy of an 8-bit image file; of colour its luma is taken.

    Raises:
        DatasetError: a file cannot be read.
    """
    shown = progress or NoProgress()
    shown.start("entropy", len(files))
    images = (torch.from_numpy(grey_levels(read_pixels(file)))[None].float() / 255 for file in files.values())
    found = {}
    for stem, nats in zip(files, image_entropies(images, classifier), strict=True):
        found[stem] = nats
        shown.advance()
    shown.finish()
    return found
