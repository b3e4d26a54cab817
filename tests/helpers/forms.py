"""Which form carries which shape, and shapes to try them on."""

from simam_deploy.graph.shapes import Dims


def carries(form: str, dims: Dims) -> bool:
    """Whether `form` can write a block of that shape."""
    return form != "instance_norm" or all(isinstance(size, int) for size in dims[1:])


DYNAMIC: dict[Dims, list[tuple[int, ...]]] = {
    ("n", 3, 35): [(1, 3, 35), (3, 3, 35), (0, 3, 35)],
    ("n", 3, "l"): [(1, 3, 2), (2, 3, 35), (0, 3, 35)],
    (None, None, None): [(1, 3, 35), (2, 1, 2)],
    ("n", 3, 2, 5, 7): [(1, 3, 2, 5, 7), (3, 3, 2, 5, 7), (0, 3, 2, 5, 7)],
    ("n", 3, "d", 5, 7): [(1, 3, 1, 5, 7), (2, 3, 4, 5, 7), (0, 3, 4, 5, 7)],
    (2, 3, 2, "h", 7): [(2, 3, 2, 1, 7), (2, 3, 2, 5, 7)],
    ("n", "c", "d", "h", "w"): [(1, 3, 2, 5, 7), (2, 1, 2, 1, 1), (2, 4, 3, 20, 9)],
}
"""Shapes in the file, and those that are run in one session."""
