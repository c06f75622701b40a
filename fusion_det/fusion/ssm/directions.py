"""How a feature map becomes four sequences and back (VMamba's SS2D), and how two modalities alternate in one sequence.

Plain PyTorch on any device: what a GPU runs, and what the fused CPU kernels are tested against. Direction k = 0 reads the
map row by row, 1 column by column, 2 and 3 are these two reversed. S4Fusion (arXiv:2405.20881), Fig. 3 and Eqs. 9 and 12.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

DIRECTIONS = (0, 1, 2, 3)


def unfold_directions(maps: torch.Tensor, directions: Sequence[int] = DIRECTIONS) -> torch.Tensor:
    """(…, H, W) → (K, …, L), L = H·W, one sequence for each of K directions."""
    return torch.stack([_walked(maps, direction) for direction in directions])


def turn_to_directions(
    sequences: torch.Tensor, height: int, width: int, directions: Sequence[int] = DIRECTIONS
) -> torch.Tensor:
    """(K, …, L), entry k in row-major order → the same values, entry k in the order of its direction.

    For what is computed position by position and differs between the directions: the scan's parameters.
    """
    maps = sequences.unflatten(-1, (height, width))
    return torch.stack([_walked(one, direction) for one, direction in zip(maps, directions, strict=True)])


def fold_directions(
    sequences: torch.Tensor, height: int, width: int, directions: Sequence[int] = DIRECTIONS
) -> torch.Tensor:
    """(K, …, L) → (…, H, W): undo :func:`unfold_directions` and add the K maps up (Eq. 12)."""
    total = sequences.new_zeros(())
    for sequence, direction in zip(sequences, directions, strict=True):
        forward = sequence.flip(-1) if direction >= 2 else sequence
        by_columns = direction % 2 == 1
        total = total + (
            forward.unflatten(-1, (width, height)).mT if by_columns else forward.unflatten(-1, (height, width))
        )
    return total


def _walked(maps: torch.Tensor, direction: int) -> torch.Tensor:
    """(…, H, W) → (…, L), as one direction reads it."""
    forward = (maps.mT if direction % 2 == 1 else maps).flatten(-2)
    return forward.flip(-1) if direction >= 2 else forward


def interleave(sequences: torch.Tensor) -> torch.Tensor:
    """(M, …, L) → (…, M·L): the M modalities take turns, the first one first (Eq. 9)."""
    return sequences.movedim(0, -1).flatten(-2)


def separate(sequence: torch.Tensor, modalities: int) -> torch.Tensor:
    """(…, M·L) → (M, …, L): undo :func:`interleave`."""
    return sequence.unflatten(-1, (-1, modalities)).movedim(-1, 0)
