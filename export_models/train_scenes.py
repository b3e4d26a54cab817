"""Train `scenes` and write scenes.pt: `python -m export_models.train_scenes`.

Each scene is shown once; AdamW, one cycle of the learning rate. A digit belongs to the level of its size. The cells
whose centre is less than a cell from its own learn it, some four. Their boxes learn by generalised IoU (Rezatofighi
et al., CVPR 2019), their scores learn the overlap of box and digit (quality focal loss: Li et al., "Generalized
Focal Loss", NeurIPS 2020). Cross-entropy among the ten scores teaches the names; without it they take far longer.

The test scenes are only looked at, to print the accuracy. The seed and the number of threads are fixed: the order of
additions, hence the last bits, depends on the threads.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export_models import scenes
from export_models.scenes import data, metrics
from export_models.scenes.net import Scenes
from export_models.train_digits import save

STEPS = 1600
BATCH = 32
REPORT = 100
"""Steps between two lines of progress."""
SEED = 0
THREADS = 2
LARGE = 32
"""Digits that are taller or wider, in pixels, belong to the coarse level."""
RATE = 4e-3


def train(steps: int = STEPS) -> tuple[nn.Module, float]:
    """The network after `steps` batches of 32 scenes, in eval mode, and its mAP@0.5 (0 to 1) on the test scenes.

    Prints a line per 100 steps. The caller's random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        net = Scenes()
        optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
        total = 0.0
        start = time.perf_counter()
        for step in range(1, steps + 1):
            images, boxes, labels = _batch(step - 1)
            loss = _loss(net(images), boxes, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
            if step % REPORT == 0 or step == steps:
                mean = total / ((step - 1) % REPORT + 1)
                print(f"step {step:4}  loss {mean:.4f}  {time.perf_counter() - start:.0f} s", flush=True)
                total = 0.0
    held, truths = data.test_set(data.TEST_SCENES)
    return net, metrics.mean_average_precision(scenes.detect(net.eval(), held), truths)


def _batch(number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images (BATCH, 3, H, W), boxes (BATCH, MOST, 4) and labels (BATCH, MOST), -1 where there is no digit."""
    images, truths = data.training_set(BATCH, number * BATCH)
    boxes = np.ones((BATCH, data.MOST, 4), np.float32)
    labels = np.full((BATCH, data.MOST), -1)
    for index, truth in enumerate(truths):
        boxes[index, : len(truth.labels)] = truth.boxes
        labels[index, : len(truth.labels)] = truth.labels
    return (
        torch.from_numpy(images).to(memory_format=torch.channels_last),
        torch.from_numpy(boxes),
        torch.from_numpy(labels),
    )


def _loss(outputs: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
    """Scores and boxes of both levels, per cell that learns a digit."""
    large = (boxes[..., 2:] - boxes[..., :2]).amax(2) >= LARGE
    total, cells = torch.zeros(()), 0
    for level, stride in enumerate(metrics.STRIDES):
        raw, logits = (_cells(y) for y in outputs[2 * level : 2 * level + 2])
        height, width = outputs[2 * level].shape[2:]
        mine = (labels >= 0) & (large == (stride == metrics.STRIDES[-1]))
        image, cell, digit = _learners(boxes / stride, mine, height, width)
        centre = torch.stack([cell % width, cell // width], 1) + 0.5
        overlap, generalised = _ious(_box(raw[image, cell], centre), boxes[image, digit] / stride)
        target = torch.zeros_like(logits)
        target[image, cell, labels[image, digit]] = overlap.detach()
        focus = (logits.detach().sigmoid() - target).abs() ** 2
        total = total + (focus * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).sum()
        total = total + F.cross_entropy(logits[image, cell], labels[image, digit], reduction="sum")
        total = total + 2 * (1 - generalised).sum()
        cells += len(cell)
    return total / max(cells, 1)


def _learners(boxes: Tensor, mine: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image, cell and digit of each cell that learns; boxes in cells. A cell between two digits learns the nearer."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (torch.stack([x, y], 2).view(1, 1, -1, 2) - centres[:, :, None]).abs().amax(3)
    nearest, digit = distance.masked_fill(~mine[..., None], torch.inf).min(1)
    image, cell = torch.nonzero(nearest < 1, as_tuple=True)
    return image, cell, digit[image, cell]


def _box(raw: Tensor, centre: Tensor) -> Tensor:
    """Boxes in cells, as `metrics.decode` makes them: raw (n, 4), centre of the cell (n, 2), to (n, 4)."""
    middle, half = centre + raw[:, :2], raw[:, 2:].exp() / 2
    return torch.cat([middle - half, middle + half], 1)


def _ious(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU, pair by pair: (n,) each."""
    area_a, area_b = ((box[:, 2:] - box[:, :2]).prod(1) for box in (a, b))
    inside = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    around = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(1)
    union = area_a + area_b - inside
    return inside / union, inside / union - (around - union) / around


def _cells(y: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H * W, C)."""
    return y.flatten(2).transpose(1, 2)


def main(arguments: list[str] | None = None) -> None:
    """Train, write the weights, print where they are."""
    parser = argparse.ArgumentParser(
        prog="python -m export_models.train_scenes", description="Train the scenes model."
    )
    parser.add_argument("--steps", type=int, default=STEPS, help="batches of 32 scenes; default: %(default)s")
    parser.add_argument("--out", type=Path, default=scenes.WEIGHTS, help="default: scenes.pt of its package")
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps must be at least 1; got {options.steps}")
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        start = time.perf_counter()
        net, precision = train(options.steps)
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    save(net, options.out)
    print(f"{options.out}: test mAP@0.5 {precision:.4f}, trained in {seconds:.0f} s")


if __name__ == "__main__":
    main()
