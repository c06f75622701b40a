"""How figures are written in print, the same in every table, figure and sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

MISSING = "–"
Mark = Literal["", "best", "second"]


def percent(value: float | None, decimals: int = 1) -> str:
    """A fraction as percent without the sign ("62.3"), or an en dash for None."""
    if value is None:
        return MISSING
    # "+ 0.0" turns a rounded -0.0 into 0.0.
    return f"{round(100 * value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def points(value: float | None, decimals: int = 1) -> str:
    """A difference of fractions as signed percentage points ("+1.2", "−0.4", "0.0")."""
    if value is None:
        return MISSING
    rounded = round(100 * value, decimals)
    return percent(value, decimals) if rounded <= 0 else f"+{rounded:.{decimals}f}"


def interval(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """ "60.1 to 64.3" (percent), or an en dash."""
    if low is None or high is None:
        return MISSING
    show = points if signed else percent
    return f"{show(low)} to {show(high)}"


def p_value(p: float | None) -> str:
    """Three decimals; "<0.001" below."""
    if p is None:
        return MISSING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    """ "3.2 s", "4 min 05 s", "2 h 10 min"."""
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def marks(values: Sequence[float | None], decimals: int = 1) -> list[Mark]:
    """Which of these fractions are best and second best *as printed* in percent: what prints alike is marked alike."""
    return marks_of_printed([None if v is None else round(100 * v, decimals) for v in values])


def marks_of_printed(printed: Sequence[float | None], *, higher_is_better: bool = True) -> list[Mark]:
    """Which of these figures, rounded as they are printed, are best and second best."""
    levels = sorted({v for v in printed if v is not None}, reverse=higher_is_better)
    names: dict[float, Mark] = dict(zip(levels[:2], ("best", "second"), strict=False))
    return ["" if v is None else names.get(v, "") for v in printed]


def number(value: float | None, decimals: int) -> str:
    """A figure in its own unit ("8.606"), or an en dash for None."""
    if value is None:
        return MISSING
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def join_words(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "†": r"\textdagger{}",
    "Δ": r"$\Delta$",
    "·": r"\textperiodcentered{}",
    "…": r"\dots{}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "²": r"\textsuperscript{2}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
}
_LATEX_PATTERN = re.compile("|".join(re.escape(c) for c in _LATEX))


def escape_latex(text: str) -> str:
    """Text for the body of a LaTeX document."""
    return _LATEX_PATTERN.sub(lambda match: _LATEX[match.group()], text)


def escape_markdown(text: str) -> str:
    """Text for a cell of a Markdown table: pipes, emphasis, links and HTML are shown, not obeyed."""
    return re.sub(r"([\\|*_`<>\[\]])", r"\\\1", text.replace("\n", " "))
