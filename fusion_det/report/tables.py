"""The tables of a report as data, and as Markdown and LaTeX (booktabs). The page has its own rendering of the same data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion_det.report.formatting import MISSING, Mark, escape_latex, escape_markdown

WIDE = 9
"""Tables of more columns are scaled to the line in LaTeX."""


@dataclass(frozen=True)
class Cell:
    """text: as printed. mark: bold or underlined. value: what the page sorts by. note: after the figure, smaller ("± 1.1")."""

    text: str
    mark: Mark = ""
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table in print. ``head`` and every row are equally long; the first column holds row names."""

    slug: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    stamps: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"table {self.slug}: a row is not as long as the head")


def to_markdown(table: Table) -> str:
    """A GitHub table, its stamps above it and in its first head cell, its notes below."""
    head = [escape_markdown(h) for h in _stamped_head(table)]
    lines = [f"**{escape_markdown(stamp)}**\n" for stamp in table.stamps]
    lines.append(f"{escape_markdown(table.caption)}\n")
    lines.append(f"| {' | '.join(head)} |")
    lines.append("|" + "|".join([" :--- "] + [" ---: "] * (len(head) - 1)) + "|")
    lines += [f"| {' | '.join(_markdown_cell(cell) for cell in row)} |" for row in table.rows]
    lines += ["", *(f"- {escape_markdown(note)}" for note in table.notes)]
    return "\n".join(lines).rstrip() + "\n"


def to_latex(table: Table) -> str:
    r"""A ``table`` environment; needs ``booktabs``, and ``graphicx`` where the table is wide."""
    wide = len(table.head) > WIDE
    packages = "booktabs and graphicx" if wide else "booktabs"
    stamp = "".join(rf"\textbf{{{escape_latex(text)}.}} " for text in table.stamps)
    head = " & ".join(escape_latex(h) for h in _stamped_head(table))
    body = [" & ".join(_latex_cell(cell) for cell in row) + r" \\" for row in table.rows]
    lines = [
        f"% Made by fusion-det report. Needs the packages {packages}.",
        *(f"% {text}" for text in table.stamps),
        r"\begin{table*}[t]" if wide else r"\begin{table}[t]",
        r"  \centering",
        rf"  \caption{{{stamp}{escape_latex(table.caption)}}}",
        rf"  \label{{tab:{table.slug.replace('_', '-')}}}",
        r"  \footnotesize",
        r"  \setlength{\tabcolsep}{4pt}",
        *([r"  \resizebox{\linewidth}{!}{%"] if wide else []),
        rf"  \begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"    \toprule",
        rf"    {head} \\",
        r"    \midrule",
        *(f"    {line}" for line in body),
        r"    \bottomrule",
        r"  \end{tabular}" + ("}" if wide else ""),
        *(rf"  \par\smallskip\parbox{{\linewidth}}{{\scriptsize {escape_latex(n)}}}" for n in table.notes),
        r"\end{table*}" if wide else r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Tidy CSV (RFC 4180 quoting, LF line ends); None is an empty field, True/False are lower case."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_field(row.get(column)) for column in columns])
    return buffer.getvalue()


def _csv_field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _stamped_head(table: Table) -> list[str]:
    """The head with the stamps in its first cell, so that they survive when only the grid is copied."""
    stamp = " · ".join(text.split(":")[0] for text in table.stamps)
    return [" ".join(filter(None, [stamp, table.head[0]])), *table.head[1:]]


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    if cell.mark and cell.text != MISSING:
        text = f"**{text}**" if cell.mark == "best" else f"<u>{text}</u>"
    return f"{text} {escape_markdown(cell.note)}".rstrip()


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.mark and cell.text != MISSING:
        text = rf"\textbf{{{text}}}" if cell.mark == "best" else rf"\underline{{{text}}}"
    return text + (rf"\,{{\scriptsize {escape_latex(cell.note)}}}" if cell.note else "")
