"""Tensors of the inputs that tests share, and their error as a share of the tolerance."""

import numpy as np
import torch

from helpers.cases import make
from simam_deploy import formula

SHAPE = (2, 3, 5, 7)


def tensor(name: str, shape: tuple[int, int, int, int] = SHAPE, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(make(name, shape)).to(dtype)


def share(y: torch.Tensor, x: torch.Tensor, e_lambda: float = 1e-4) -> float:
    """The largest error of y as a share of the tolerance; infinite where y is not a number."""
    a = x.detach().double().numpy()
    error = np.abs(y.detach().double().numpy() - formula.reference(a, e_lambda))
    shares = error / formula.tolerance(a, str(x.dtype).removeprefix("torch."), e_lambda)
    return float(np.nan_to_num(shares, nan=np.inf).max())
