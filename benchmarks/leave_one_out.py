"""Difference between equation (5), with statistics of the whole plane, and the exact minimum of (2), without t.

    python -m benchmarks.leave_one_out

prints the table of docs/explanation/derivation.md: the largest difference of the gates sigmoid(1/e*) over 64 planes.
"""

import numpy as np

from simam_deploy.formula import gate, minimal_energy_leave_one_out

SIDES = [(1, 2), (7, 7), (14, 14), (56, 56)]


def planes(kind: str, side: tuple[int, int]) -> np.ndarray:
    """64 standard normal planes; `outlier` puts 1000 on the first pixel of each."""
    x = np.random.default_rng(0).standard_normal((1, 64, *side))
    if kind == "outlier":
        x[:, :, 0, 0] = 1e3
    return x


def largest_difference(x: np.ndarray, e_lambda: float) -> float:
    """Largest difference between the gate of (5) and that of the exact minimum."""
    exact = 1 / (1 + np.exp(-1 / minimal_energy_leave_one_out(x, e_lambda)))
    return float(np.abs(gate(x, e_lambda) - exact).max())


def table() -> str:
    """The Markdown table."""
    lines = [
        "| M | plain, λ = 1e-4 | plain, λ = 0.1 | outlier, λ = 1e-4 | outlier, λ = 0.1 |",
        "|--:|--:|--:|--:|--:|",
    ]
    for side in SIDES:
        cells = [largest_difference(planes(kind, side), lam) for kind in ("plain", "outlier") for lam in (1e-4, 0.1)]
        lines.append(f"| {side[0] * side[1]} | " + " | ".join(f"{cell:.2g}" for cell in cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
