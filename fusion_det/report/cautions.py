"""What makes a table weaker than it looks, in words; said in the table's notes and beside the answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fusion_det.pipeline.results import ExperimentResults, MethodInfo, MethodRun
from fusion_det.report.formatting import join_words
from fusion_det.report.summary import Summary


def cautions(results: ExperimentResults, summary: Summary) -> list[str]:
    """A sentence or two for each."""
    out = []
    if summary.few_groups:
        out.append(
            f"Caution: the bootstrap had only {summary.groups} groups of images to draw from; percentile intervals over so "
            "few are too narrow, and p too small."
        )
    labels = {m.name: m.label for m in results.methods}
    ok = [run for run in results.runs if run.status == "ok"]
    differing = [
        text
        for text in (
            _differing("precision", [(labels.get(run.method, run.method), run.precision) for run in ok]),
            _differing("kind of device", [(labels.get(run.method, run.method), device_kind(run)) for run in ok]),
        )
        if text
    ]
    if differing:
        out.append(
            f"Caution: the detectors were not all trained alike: they differ in {join_words(differing)}. "
            "A difference between such rows is not the method's alone."
        )
    if text := published_procedures(results.methods):
        out.append(text)
    return out


def published_procedures(methods: Sequence[MethodInfo]) -> str:
    """Which rows were not fused by the common protocol, and what that means for them; "" if there are none."""
    official = [method.label for method in methods if method.protocol == "official"]
    if not official:
        return ""
    return (
        "Caution: fused as their authors published it (own colour, sizes and stretching), not by the common protocol: "
        f"{', '.join(official)}. Their difference to other rows is not the methods' alone."
    )


def device_kind(run: MethodRun) -> str:
    """ "cuda" for "cuda:1"; "" where it was not recorded. Two cards of one machine are one kind."""
    return run.device.split(":")[0]


def _differing(what: str, rows: list[tuple[str, str]]) -> str:
    """ "precision (bf16: GFF, Mean; the others fp32)", or "" where all recorded values are one."""
    counts = Counter(value for _, value in rows if value)
    if len(counts) < 2:
        return ""
    usual = counts.most_common(1)[0][0]
    odd = {value: list(dict.fromkeys(label for label, v in rows if v == value)) for value in counts if value != usual}
    named = "; ".join(f"{value}: {', '.join(labels)}" for value, labels in odd.items())
    return f"{what} ({named}; the others {usual})"
