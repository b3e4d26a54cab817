"""Speed of a low-precision file against its float32 file."""

from pathlib import Path

import pytest
from helpers.to_quantise import images, net, saved

from simam_deploy.precision.speed import Speed, speed


def test_a_file_is_as_fast_as_itself(tmp_path: Path) -> None:
    path, _ = saved(tmp_path, net())
    said: list[str] = []
    found = speed(path, path, {"x": images(1)}, threads=1, seconds=0.2, on_progress=said.append)
    assert found.ratio == pytest.approx(found.float32_us / found.low_us)
    assert 0.2 < found.quiet < 5
    assert said[-1] == "measure the speed: 100%"


def test_words() -> None:
    assert str(Speed(200, 100, 2.0, 2.1)) == "2.00 times as fast as float32 (100 for 200 us): it pays"
    assert str(Speed(80, 100, 0.8, 0.8)) == "0.80 times as fast as float32 (100 for 80 us): it does not pay"
    assert str(Speed(105, 100, 1.05, 1.1)) == "1.05 times as fast as float32 (100 for 105 us): no difference"
