"""The pages in a browser: it says nothing on its console, and shows the pictures."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--enable-logging=stderr", "--window-size=1000,6000"),
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")


def opened(page: Path, folder: Path) -> tuple[list[str], np.ndarray]:
    """Lines on the console, and the window as (H, W, 3)."""
    shot = folder / "shot.png"
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={folder / 'profile'}", f"--screenshot={shot}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    with Image.open(shot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line], pixels


def coloured(pixels: np.ndarray) -> float:
    """Share of the pixels that are no grey: those of bars, histograms and maps."""
    wide = pixels.astype(int)
    return float(np.mean(wide.max(axis=2) - wide.min(axis=2) > 60))


@pytest.mark.parametrize("name", ["analyze", "int8", "verify"])
def test_a_page_opens(name: str, pages, tmp_path: Path) -> None:
    console, pixels = opened(pages.folder / f"{name}.html", tmp_path)
    assert not console
    assert coloured(pixels) > 0.01


def test_the_console_tells_what_a_page_may_not_do(pages, tmp_path: Path) -> None:
    """And a page without its pictures has no colour: so the test above can fail."""
    page = tmp_path / "page.html"
    whole = pages.by_name["analyze"]
    page.write_text(whole.replace("data:image", "missing/image") + "<script>alert(1)</script>", "utf-8")
    console, pixels = opened(page, tmp_path)
    assert any("Content Security Policy" in line for line in console)
    assert coloured(pixels) < 0.01
