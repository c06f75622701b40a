"""``fusion-det fuse``: fused images of a dataset or of two folders, without any detector."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusion_det.cli.console import RichProgress, console
from fusion_det.cli.options import DEFAULT_CACHE, CacheDir, TaskName
from fusion_det.cli.pairs import open_pairs
from fusion_det.errors import MethodError
from fusion_det.tasks import IVIF

if TYPE_CHECKING:
    from fusion_det.data.pair import PairDataset
    from fusion_det.fusion import FusionSummary, MethodSpec

USUAL_METHOD = "s4fusion"
"""Its weights come with this package."""

_EXAMPLES = """Examples:

  fusion-det fuse --ir night_ir.png --vi night_vi.png                     (writes fused/night_vi.png)

  fusion-det fuse --method gff --ir pairs/ir --vi pairs/vi --out fused

  fusion-det fuse --method laplacian,gff --data m3fd --out fused          (writes fused/laplacian and fused/gff)

  fusion-det fuse --method s4fusion --weights model.pkl --data datasets/m3fd --out fused --device cuda --batch-size 4

  fusion-det fuse --method u2fusion --protocol official --data datasets/tno --out fused      (as its authors' script does)

  fusion-det fuse --task medical --first brain_mri.png --second brain_pet.png    (the MRI is grey, the PET gives the colour)

  fusion-det fuse --task multi-focus --method smc_mamba --data datasets/lytro    (near/ and far/ in it)

  fusion-det fuse --method s4fusion --config no_mark --weights own.safetensors --data m3fd --out fused"""


class ColorOption(StrEnum):
    """What is written: fused luma with the sources' chroma, or grey images."""

    ycbcr = "ycbcr"
    gray = "gray"


class DtypeOption(StrEnum):
    """What networks compute in."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ProtocolOption(StrEnum):
    """Who decides about colour, sizes and range: this project, alike for all methods, or a method's authors."""

    common = "common"
    official = "official"


@dataclasses.dataclass(frozen=True)
class FuseOptions:
    """How every method of one command fuses."""

    color: ColorOption
    protocol: ProtocolOption
    device: str
    dtype: DtypeOption
    batch_size: int
    workers: int
    overwrite: bool


def fuse(
    ir: Annotated[
        Path | None, typer.Option("--ir", "--first", help="Infrared (or the task's first) image, or folder of them.")
    ] = None,
    vi: Annotated[
        Path | None,
        typer.Option("--vi", "--second", help="Visible (or second) image, or folder with the same stems as --ir."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Instead of --ir and --vi: a dataset's name or folder.")] = None,
    task: TaskName = IVIF,
    out: Annotated[
        Path, typer.Option(help="Folder for STEM.png; with several methods one folder each below it.")
    ] = Path("fused"),
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            "-m",
            help=f"Methods: names, globs ('g*'), 'all', NAME@official, NAME@shipped or NAME@FILE for certain weights, or "
            f"NAME=FOLDER; comma separated or repeated. See fusion-det methods.  [default: {USUAL_METHOD}]",
        ),
    ] = None,
    color: Annotated[
        ColorOption,
        typer.Option(
            help="ycbcr: colour, the fused luma with the chroma of the second source (of both in multi-focus and "
            "multi-exposure). gray: fused luma alone."
        ),
    ] = ColorOption.ycbcr,
    protocol: Annotated[
        ProtocolOption,
        typer.Option(
            help="common: colour, padding and rounding alike for all methods. official: what the script that a method's authors "
            "published would have written, its own colour, sizes and stretching (fusion-det methods NAME tells)."
        ),
    ] = ProtocolOption.common,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps, or auto.")] = "auto",
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs of one size that are fused at once.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Threads that read, and as many that write.")] = 2,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METHOD=]FILE",
            help="Weights of a learned method, if not in their usual place. The method may be left out if it is the only "
            "learned one.",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[METHOD=]NAME", help="Variant of a method that has some (fusion-det methods --json lists them)."
        ),
    ] = None,
    dtype: Annotated[
        DtypeOption,
        typer.Option(
            help="What networks compute in. Lower precisions change the images a little; float16 is slow on CPUs."
        ),
    ] = DtypeOption.float32,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace images in --out that were made in another way.")
    ] = False,
    cache: CacheDir = DEFAULT_CACHE,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
    ] = None,
) -> None:
    """Fuse one pair, or the pairs of a dataset or of two folders, into images of exactly their size.

    Images that are there already are kept, so a run that was interrupted continues.
    """
    from fusion_det.fusion import (
        expand_methods,
        get_card,
        how_to_get_weights,
        load_method_modules,
        parse_configs,
        parse_weights,
        weights_status,
        with_files,
    )
    from fusion_det.fusion.protocol import missing_procedure

    load_method_modules(method_module or [])
    specs = expand_methods(method or [USUAL_METHOD])
    names, cards = [spec.method for spec in specs], [get_card(spec) for spec in specs]
    files = parse_weights(weights or [], names, _only(card.name for card in cards if card.weights))
    configs = parse_configs(config or [], names, _only(card.name for card in cards if card.configs))
    specs = with_files(specs, files)
    unready = {
        spec: f"{spec.name}: {text}; {how_to_get_weights(card, configs.get(spec.method))}"
        for spec, card in zip(specs, cards, strict=True)
        for ready, text in [weights_status(spec, config=configs.get(spec.method))]
        if not ready
    }
    if protocol is ProtocolOption.official:
        missing = {spec: missing_procedure(card) for spec, card in zip(specs, cards, strict=True)}
        unready |= {spec: f"{spec.name}: {reason}" for spec, reason in missing.items() if reason}
    ready = [spec for spec in specs if spec not in unready]
    if not ready or any(spec.named for spec in unready):
        raise MethodError("these methods cannot fuse yet:" + "".join(f"\n  - {line}" for line in unready.values()))
    for line in unready.values():
        console(stderr=True).print(f"left out: {line}", style="yellow", markup=False, soft_wrap=True)
    options = FuseOptions(color, protocol, device, dtype, batch_size, workers, overwrite)
    with RichProgress() as progress:
        dataset = open_pairs(ir, vi, data, limit, cache, progress, task)
        for spec in ready:
            target = out if len(specs) == 1 else out / spec.name
            chosen = configs.get(spec.method)
            summary = _fuse_with(spec, chosen, dataset, target, options, progress)
            _report(spec, chosen, target, protocol, summary)


fuse.__doc__ = f"{fuse.__doc__}\n\n{_EXAMPLES}"


def _only(names: Iterable[str]) -> str | None:
    """The name if there is exactly one, perhaps several times."""
    found = list(dict.fromkeys(names))
    return found[0] if len(found) == 1 else None


def _fuse_with(
    spec: MethodSpec,
    config: str | None,
    dataset: PairDataset,
    out: Path,
    options: FuseOptions,
    progress: RichProgress,
) -> FusionSummary:
    from fusion_det.fusion import FusionRunner, build_method, method_identity, resolve_device
    from fusion_det.fusion.output import claim_folder

    device = resolve_device(options.device)
    method = build_method(spec, config=config, device=device, dtype=options.dtype.value)
    runner = FusionRunner(
        method, options.color.value, device, options.batch_size, options.workers, options.protocol.value
    )
    runner.check_output(dataset.records, out)
    identity = method_identity(
        spec, config=config, dtype=options.dtype.value, protocol=options.protocol.value, task=dataset.task
    )
    sources = {} if spec.folder is not None else {record.stem: record.content for record in dataset}
    claim_folder(out, identity, options.color.value, sources, overwrite=options.overwrite)
    return runner.run(dataset.records, out, progress)


def _report(spec: MethodSpec, config: str | None, out: Path, protocol: ProtocolOption, summary: FusionSummary) -> None:
    from fusion_det.fusion import found_weights, get_card

    speed = f", {summary.seconds_per_pair:.3f} s per pair in the method" if summary.fuse_seconds else ""
    kept = f", {summary.skipped} were there" if summary.skipped else ""
    console().print(
        f"{spec.name}: {summary.written} images written to {out}{kept} ({summary.seconds:.1f} s{speed})",
        markup=False,
        soft_wrap=True,
    )
    found = found_weights(spec, config=config)
    if found is not None:
        console().print(f"  weights: {found.text(get_card(spec))}", markup=False, soft_wrap=True)
    if protocol is ProtocolOption.official:
        console().print(f"  published procedure: {get_card(spec).official}", markup=False, soft_wrap=True)
