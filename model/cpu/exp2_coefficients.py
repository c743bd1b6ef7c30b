#!/usr/bin/env python3
"""Prints the polynomial of exp2() in packet.h: minimax in relative error over [-1/2, 1/2], by the Remez exchange.

The constant term is held at 1, so that 2^integer comes out exact. Needs numpy.
"""
import numpy as np

DEGREE = 6
LOW, HIGH = -0.5, 0.5


def remez(iterations=30):
    """Coefficients c[1..DEGREE] of 2^x = 1 + c1 x + ... with equal extremes of (p - 2^x) / 2^x."""
    grid = np.linspace(LOW, HIGH, 200001)
    grid = grid[np.abs(grid) > 1e-6]  # at 0 the error is 0 whatever the coefficients
    nodes = 0.5 * np.cos(np.linspace(np.pi, 0, DEGREE + 1))
    nodes[np.abs(nodes) < 1e-3] += 0.02
    for _ in range(iterations):
        rows = np.stack([nodes**k / 2**nodes for k in range(1, DEGREE + 1)], 1)
        # The curve passes through 0 with no error, where its sign repeats instead of alternating.
        signs = np.where(nodes < 0, 1.0, -1.0) * (-1.0) ** np.arange(DEGREE + 1)
        solution = np.linalg.solve(np.column_stack([rows, signs]), 1 - 1 / 2**nodes)
        error = sum(c * grid ** (k + 1) for k, c in enumerate(solution[:-1])) / 2**grid + 1 / 2**grid - 1
        splits = np.flatnonzero(np.diff(np.sign(error)) != 0) + 1
        peaks = [part[np.argmax(np.abs(error[part]))] for part in np.split(np.arange(grid.size), splits)]
        peaks = sorted(sorted(peaks, key=lambda i: -abs(error[i]))[: DEGREE + 1])
        if len(peaks) <= DEGREE:
            break
        nodes = grid[peaks]
    return solution[:-1], np.abs(error).max()


if __name__ == "__main__":
    coefficients, worst = remez()
    print("relative error", worst)
    for power, value in enumerate(coefficients, 1):
        print(f"x^{power}: {value:.9e}")
