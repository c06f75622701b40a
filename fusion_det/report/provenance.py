"""Whose weights a row has, and whether they have learnt from the images it is judged by: the same words in every table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fusion_det.pipeline.results import MethodInfo
from fusion_det.report.formatting import MISSING, join_words


def weights_notes(methods: Sequence[MethodInfo], images: int | None, kind: str = "images") -> list[str]:
    """What a reader must know of the weights behind a table, a note each.

    Args:
        methods: those with figures. images: how many they are judged by; kind: what these are called ("test images").
    """
    own = [m for m in methods if m.weights_source not in ("", "official")]
    flagged = [m for m in methods if m.contaminated]
    unknown = [m.label for m in methods if not m.trained_on_known]
    notes = []
    if own:
        notes.append(f"Not the authors' weights: {_grouped((m, m.weights) for m in own)}.")
    if flagged:
        notes.append(f"† {_grouped((m, contamination(m, images, kind)) for m in flagged)}.")
    if unknown:
        notes.append(
            f"What the weights of {join_words(unknown)} were trained on is not known; perhaps on these {kind}."
        )
    return notes


def contamination(method: MethodInfo, images: int | None, kind: str = "images") -> str:
    """What is known of a row's weights and the images it is judged by; "" where there is nothing to say."""
    if not method.trained_on_known:
        return "not known"
    if not method.trained_on:
        return "the weights were trained on images that are, or may be, among these" if method.contaminated else ""
    if not method.contaminated:
        return f"none of these {kind}"
    if method.images_trained_on is None:
        return f"the weights were trained on {join_words(list(method.trained_on))}, perhaps on some of these {kind}"
    total = "" if images is None else f" of {images}"
    return f"the weights were trained on {method.images_trained_on}{total} {kind}"


def trained_on(method: MethodInfo) -> str:
    """The datasets a row's weights were trained on, as a cell."""
    return ", ".join(method.trained_on) or (MISSING if method.trained_on_known else "not known")


def _grouped(said: Iterable[tuple[MethodInfo, str]]) -> str:
    """ "A, B: this; C: that"."""
    labels: dict[str, list[str]] = {}
    for method, text in said:
        labels.setdefault(text, []).append(method.label)
    return "; ".join(f"{join_words(names)}: {text}" for text, names in labels.items())
