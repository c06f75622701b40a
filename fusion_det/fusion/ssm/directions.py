"""How a feature map becomes four sequences and back (VMamba's SS2D), and how two modalities alternate in one sequence.

Plain PyTorch on any device: what a GPU runs, and what the fused CPU kernels are tested against. Direction k = 0 reads the
map row by row, 1 column by column, 2 and 3 are these two reversed. S4Fusion (arXiv:2405.20881), Fig. 3 and Eqs. 9 and 12.
"""

from __future__ import annotations

import torch

DIRECTIONS = 4


def unfold_directions(maps: torch.Tensor) -> torch.Tensor:
    """(…, H, W) → (4, …, L), L = H·W, one sequence for each direction."""
    rows, columns = maps.flatten(-2), maps.mT.flatten(-2)
    return torch.stack((rows, columns, rows.flip(-1), columns.flip(-1)))


def turn_to_directions(sequences: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(4, …, L), entry k in row-major order → the same values, entry k in the order of direction k.

    For what is computed position by position and differs between the directions: the scan's parameters.
    """
    rows, columns, rows_back, columns_back = sequences

    def by_columns(row_major: torch.Tensor) -> torch.Tensor:
        return row_major.unflatten(-1, (height, width)).mT.flatten(-2)

    return torch.stack((rows, by_columns(columns), rows_back.flip(-1), by_columns(columns_back).flip(-1)))


def fold_directions(sequences: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(4, …, L) → (…, H, W): undo :func:`unfold_directions` and add the four maps up (Eq. 12)."""
    rows = sequences[0] + sequences[2].flip(-1)
    columns = sequences[1] + sequences[3].flip(-1)
    return rows.unflatten(-1, (height, width)) + columns.unflatten(-1, (width, height)).mT


def interleave(sequences: torch.Tensor) -> torch.Tensor:
    """(M, …, L) → (…, M·L): the M modalities take turns, the first one first (Eq. 9)."""
    return sequences.movedim(0, -1).flatten(-2)


def separate(sequence: torch.Tensor, modalities: int) -> torch.Tensor:
    """(…, M·L) → (M, …, L): undo :func:`interleave`."""
    return sequence.unflatten(-1, (-1, modalities)).movedim(-1, 0)
