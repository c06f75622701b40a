"""``fusion-det explain``: a look into a method: Δ by layer (Table VIII), features around the interaction (Fig. 14)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion_det.cli.console import RichProgress, console
from fusion_det.cli.fuse import DtypeOption
from fusion_det.cli.options import DEFAULT_CACHE, CacheDir
from fusion_det.cli.pairs import open_pairs
from fusion_det.errors import ConfigError, DatasetError, MethodError

if TYPE_CHECKING:
    import rich.table

    from fusion_det.data.pair import PairDataset, PairRecord
    from fusion_det.fusion import FusionMethod, MethodSpec
    from fusion_det.fusion.explanation import StepMean
    from fusion_det.report.explanation import ExplainedPair
    from fusion_det.report.tables import Table

_EXAMPLES = """Examples:

  fusion-det explain --method s4fusion --weights model.pkl --data m3fd --stem 00388 --out explained

  fusion-det explain --method s4fusion --ir 00388_ir.png --vi 00388_vi.png --out explained      (two files: one pair)

  fusion-det explain --method s4fusion --data roadscene --limit 100 --features 0 --out explained      (Table VIII alone)

  fusion-det explain --method s4fusion --config no_mark --weights own.safetensors --ir pairs/ir --vi pairs/vi --out explained"""


class StageOption(StrEnum):
    """Which Δ the table shows."""

    projected = "projected"
    biased = "biased"
    step = "step"


class ScaleOption(StrEnum):
    """What one range of colours is for."""

    own = "own"
    shared = "shared"


@dataclass(frozen=True)
class ExplainOptions:
    """stage: of the table. features: of how many pairs maps are written. scale: of their colours."""

    device: str
    stage: StageOption
    features: int
    scale: ScaleOption


def explain(
    method: Annotated[
        str, typer.Option("--method", "-m", help="A method that offers an explanation, such as s4fusion.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for tables and pictures; an earlier explanation there is replaced.")
    ],
    ir: Annotated[Path | None, typer.Option(help="Infrared image, or folder of them.")] = None,
    vi: Annotated[Path | None, typer.Option(help="Visible image, or folder with the same stems as --ir.")] = None,
    data: Annotated[str | None, typer.Option(help="Instead of --ir and --vi: a dataset's name or folder.")] = None,
    stem: Annotated[
        list[str] | None, typer.Option(help="Only this pair (repeatable), by the name of its files without suffix.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N pairs.")] = None,
    stage: Annotated[
        StageOption,
        typer.Option(
            help="Δ in the printed table: as projected from the input (what the paper's Table VIII seems to be), with its "
            "bias, or the step itself, the softplus of that. The CSV and JSON have all three."
        ),
    ] = StageOption.projected,
    features: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Write feature maps of the first N pairs (about 120 MB for 1024×768 pixels)."
        ),
    ] = 10,
    scale: Annotated[
        ScaleOption,
        typer.Option(
            help="Pictures of maps, before and after: each by itself (own: compare what is seen), or by one direction of the "
            "channels and one range of colours (shared: compare how strong it is)."
        ),
    ] = ScaleOption.own,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps, or auto.")] = "auto",
    weights: Annotated[
        str | None, typer.Option(metavar="[METHOD=]FILE", help="The method's weights, if not in their usual place.")
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(metavar="[METHOD=]NAME", help="Variant of the method (fusion-det methods --json lists them)."),
    ] = None,
    dtype: Annotated[
        DtypeOption, typer.Option(help="What the network computes in. Lower precisions change the figures a little.")
    ] = DtypeOption.float32,
    cache: CacheDir = DEFAULT_CACHE,
    method_module: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Python module or .py file with more methods (repeatable)."),
    ] = None,
) -> None:
    """Look into a method: step sizes Δ by layer and modality, and features before and after the modalities interact.

    Writes step_sizes (averages over the pairs, as Table VIII) and features/STEM (arrays, panels as Fig. 14, single maps).
    """
    from fusion_det.fusion import (
        FusionMethod,
        build_method,
        load_method_modules,
        method_identity,
        parse_configs,
        parse_weights,
        with_files,
    )
    from fusion_det.fusion.build import resolve_device

    load_method_modules(method_module or [])
    spec = _only_method(method)
    files = parse_weights([weights] if weights else [], [spec.method], spec.method)
    (spec,) = with_files([spec], files)
    variant = parse_configs([config] if config else [], [spec.method], spec.method).get(spec.method)
    _check_out(out)
    options = ExplainOptions(resolve_device(device), stage, features, scale)
    built = build_method(spec, config=variant, device=options.device, dtype=dtype.value)
    if not isinstance(built, FusionMethod):  # for the type checker: _only_method lets no folder of images through
        raise TypeError(f"{spec.name} is no method")
    with RichProgress() as progress:
        dataset, records = _open(ir, vi, data, stem or [], limit, cache, progress)
        provenance = {
            "method": method_identity(spec, config=variant, dtype=dtype.value),
            "dataset": {"name": dataset.name, "content_digest": dataset.content_digest},
        }
        table = _write(built, dataset, records, out, options, provenance, progress)
    console().print(_shown(table))
    for note in table.notes:
        console().print(note, markup=False, style="dim")
    written = min(features, len(records))
    more = f" (feature maps of the first {written} of {len(records)} pairs)" if written < len(records) else ""
    console().print(f"The explanation is in {out.resolve()}{more}", markup=False, soft_wrap=True)


explain.__doc__ = f"{explain.__doc__}\n\n{_EXAMPLES}"


def _only_method(text: str) -> MethodSpec:
    from fusion_det.fusion import expand_methods, get_card
    from fusion_det.fusion.explanation import require_explaining

    specs = expand_methods(text)
    if len(specs) > 1:
        raise MethodError(f"--method {text}: one method at a time, not {', '.join(spec.name for spec in specs)}")
    require_explaining(get_card(specs[0]))
    return specs[0]


def _check_out(out: Path) -> None:
    """ConfigError unless ``out`` is new, empty or an earlier explanation, for it will be replaced as a whole."""
    from fusion_det.report.explanation import DOCUMENT

    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out} is a file; name a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / DOCUMENT).is_file():
        raise ConfigError(
            f"--out {out} holds other files (there is no {DOCUMENT} in it), and it would be replaced as a whole; choose "
            "another folder"
        )


def _open(
    ir: Path | None,
    vi: Path | None,
    data: str | None,
    stems: list[str],
    limit: int | None,
    cache: Path,
    progress: RichProgress,
) -> tuple[PairDataset, list[PairRecord]]:
    """The dataset, and those of its pairs that were asked for."""
    if stems and limit is not None:
        raise ConfigError("--stem says which pairs to explain; leave out --limit")
    dataset = open_pairs(ir, vi, data, limit, cache, progress)
    if not dataset.records:
        raise DatasetError(f"{dataset.root} holds no pairs.", cure="Name folders with images of the same stems.")
    known = dataset.by_stem()
    for name in stems:
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=3)
            hint = (
                f"did you mean {' or '.join(near)}?"
                if near
                else f"its {len(known)} pairs begin with {next(iter(known))}."
            )
            raise ConfigError(f"--stem {name}: {dataset.name} has no such pair; {hint}")
    return dataset, dataset.select(list(dict.fromkeys(stems))) if stems else list(dataset.records)


def _write(
    method: FusionMethod,
    dataset: PairDataset,
    records: list[PairRecord],
    out: Path,
    options: ExplainOptions,
    provenance: dict[str, Any],
    progress: RichProgress,
) -> Table:
    from fusion_det.files import replace_folder
    from fusion_det.report.explanation import write_features, write_step_sizes

    label = method.card.label
    steps: dict[str, tuple[StepMean, ...]] = {}
    try:
        with replace_folder(out) as folder:
            progress.start(f"explaining {method.card.name}", len(records))
            for record in records:
                explained = _explain(method, record, options.device)
                steps[record.stem] = explained.explanation.steps
                if len(steps) <= options.features:
                    write_features(folder / "features" / record.stem, explained, label, options.scale.value)
                del explained  # a hundred megabytes, before the next
                progress.advance(note=record.stem)
            progress.finish()
            return write_step_sizes(folder, steps, options.stage.value, label, dataset.name, provenance)
    except OSError as error:
        raise ConfigError(
            f"--out {out} cannot be written: {error.strerror or error}; make room, ask for fewer "
            "--features, or choose another folder"
        ) from error


def _explain(method: FusionMethod, record: PairRecord, device: str) -> ExplainedPair:
    from fusion_det.data import load_pair
    from fusion_det.data.color import luma
    from fusion_det.fusion.explanation import explain_pair
    from fusion_det.fusion.frame import padding_margins
    from fusion_det.report.explanation import ExplainedPair

    pair = load_pair(record)
    return ExplainedPair(
        stem=pair.stem,
        ir=pair.ir[0].numpy(),
        vi=pair.vi.permute(1, 2, 0).numpy(),
        luma=luma(pair.vi[None])[0, 0].numpy(),
        margins=padding_margins(method.card, *pair.ir.shape[-2:]),
        explanation=explain_pair(method, pair, device),
    )


def _shown(table: Table) -> rich.table.Table:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, title=table.caption, title_justify="left")
    for i, name in enumerate(table.head):
        shown.add_column(name, justify="right" if i else "left", overflow="fold")
    for row in table.rows:
        style = "" if "block" in row[0].text else "bold"
        shown.add_row(*(Text(f"{cell.text} {cell.note}".strip(), style=style) for cell in row))
    return shown
