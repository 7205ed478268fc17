"""Mask → contours that give the same mask back."""

import numpy as np
from numpy.typing import NDArray

STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""(row, column) steps along voxel edges; each is the one before it turned right."""

RIGHT, STRAIGHT, LEFT = 1, 0, 3


def trace_contours(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Outline a mask along the edges of its pixels, midway between pixel centres.

    A pixel's centre lies inside an odd number of the contours if the pixel is true, an even number if it is not; holes
    are contours of their own. Regions that touch at a corner only are outlined apart.

    Parameters
    ----------
    mask
        (rows, columns)

    Returns
    -------
    list of (n, 2)
        Corners (row, column) of each contour, n >= 4, without repeating the first; all are odd multiples of a half.
    """
    padded = np.pad(mask, 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    # Which edges leave each corner of the pixels in the direction of each step, so that the mask is on their right
    leaving = np.stack(
        (
            below_right & ~above_right,
            below_left & ~below_right,
            above_left & ~below_left,
            above_right & ~above_left,
        )
    )  # (steps, rows + 1, columns + 1)
    edges = [(direction, row, column) for direction, row, column in np.argwhere(leaving).tolist()]
    every_edge = frozenset(edges)
    unvisited = dict.fromkeys(edges)
    contours = []
    while unvisited:
        direction, row, column = next(iter(unvisited))
        corners = []
        # Each edge has one successor and one predecessor, so the walk ends where it began
        while (direction, row, column) in unvisited:
            del unvisited[direction, row, column]
            row += STEPS[direction][0]
            column += STEPS[direction][1]
            turn = next(t for t in (RIGHT, STRAIGHT, LEFT) if ((direction + t) % 4, row, column) in every_edge)
            if turn != STRAIGHT:
                corners.append((row, column))
            direction = (direction + turn) % 4
        contours.append(np.array(corners) - 0.5)
    return contours
