"""plugins/jetson.sh, which cross-compiles for Jetson, and check_aarch64.py, which looks at what it made."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_script(checkout: Path, **variables: str) -> tuple[int, str]:
    (checkout / "plugins").mkdir()
    shutil.copy(ROOT / "plugins/jetson.sh", checkout / "plugins")
    done = subprocess.run(
        ["/bin/sh", str(checkout / "plugins/jetson.sh")],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the cross compilers are programs for x86_64")
def test_what_is_missing_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    status, said = run_script(tmp_path / "a")
    assert status == 1
    assert said.startswith("set TENSORRT_INCLUDE_DIR to the folder of NvInferRuntime.h")
    (tmp_path / "b").mkdir()
    status, said = run_script(tmp_path / "b", TENSORRT_INCLUDE_DIR="/headers", PYTHON="/bin/false")
    assert status == 1
    assert said.startswith("gcc, which is to be in build/jetson, cannot be had")


@pytest.mark.parametrize(("cuda", "gpus"), [("12", "sm_87"), ("13", "sm_110 sm_87")])
def test_what_was_built_is_for_jetson(cuda: str, gpus: str) -> None:
    build = ROOT / f"build/native/jetson-cuda{cuda}"
    if not (build / "probe").exists():
        pytest.skip("nothing was cross-compiled; `make native-cuda-aarch64` does")
    command = [sys.executable, str(ROOT / "plugins/check_aarch64.py"), str(build), "--cuda", cuda]
    done = subprocess.run([*command, "--probe", str(build / "probe")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"libsimam_tensorrt.so: AArch64; {gpus}; " in done.stdout
    assert re.search(r"^qemu: 14 creators; simam_prepare 35;", done.stdout, re.MULTILINE)  # 35: there is no driver
    other = subprocess.run(
        [*command[:-1], {"12": "13", "13": "12"}[cuda]], capture_output=True, text=True, check=False
    )
    assert other.returncode == 1
    assert "it has code for" in other.stderr
