"""Train `digits` and write digits.pt: `python -m export_models.train_digits`.

1347 scans (`digits.training_set`), moved by up to one pixel each time they are shown; AdamW, one cycle of the
learning rate, a fixed number of epochs. The held-out scans are only looked at, to print the accuracy: nothing
is chosen by them. One thread and a fixed seed, so a second run on the same machine writes the same bytes.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models import digits

EPOCHS = 30
BATCH = 64
SEED = 0


def train(epochs: int = EPOCHS) -> tuple[nn.Module, float]:
    """The network after `epochs` epochs, in eval mode, and its accuracy (0 to 1) on the held-out scans.

    Prints a line per epoch. The caller's random state is left as it was.
    """
    images, labels = (torch.from_numpy(a) for a in digits.training_set())
    held_images, held_labels = (torch.from_numpy(a) for a in digits.test_set())
    accuracy = 0.0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net = digits.Digits()
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
        steps = epochs * -(-len(images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
        for epoch in range(1, epochs + 1):
            net.train()
            total = 0.0
            for index in torch.randperm(len(images)).split(BATCH):
                loss = F.cross_entropy(net(_moved(images[index])), labels[index])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() * len(index)
            accuracy = _accuracy(net.eval(), held_images, held_labels)
            print(f"epoch {epoch:2}  loss {total / len(images):.4f}  test accuracy {accuracy:.2%}", flush=True)
    return net.eval(), accuracy


def save(net: nn.Module, path: Path) -> None:
    """Write the weights beside `path`, then rename, so that no half-written file is ever seen."""
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(buffer.getvalue())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> None:
    """Train, write the weights, print where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m export_models.train_digits", description="Train the digits model."
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=digits.WEIGHTS, help="default: digits.pt of this package")
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error(f"--epochs must be at least 1; got {options.epochs}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of additions, hence the last bits, depends on it
    try:
        start = time.perf_counter()
        net, accuracy = train(options.epochs)
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    save(net, options.out)
    print(f"{options.out}: test accuracy {accuracy:.2%}, trained in {seconds:.0f} s")


def _accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (net(images).argmax(1) == labels).float().mean().item()


def _moved(images: Tensor) -> Tensor:
    """Each image moved by -1, 0 or 1 pixel in both directions, zeros moving in: (N, 1, 8, 8) to the same."""
    n, _, height, width = images.shape
    padded = F.pad(images, (1, 1, 1, 1))
    top, left = torch.randint(0, 3, (2, n, 1, 1))
    rows = top + torch.arange(height)[:, None]
    columns = left + torch.arange(width)[None, :]
    return padded[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


if __name__ == "__main__":
    main()
