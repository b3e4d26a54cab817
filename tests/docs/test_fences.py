"""Every command and every program of the README and the docs is run, and their outputs are those that are shown."""

from pathlib import Path

import fences
import pytest
from fences import LANGUAGES, NO_RUN, OUTPUT, REASONS, ROOT, Fence, alike, pages, prepare, run_page

NOT_RUN = {
    "README.md": {"needs Ultralytics": 1, "installs": 1, "takes minutes": 1},
    "docs/howto/edge.md": {"needs MNN or ncnn": 2},
    "docs/howto/cpp_onnxruntime.md": {"shows the options of a compiler": 1},
    "docs/howto/gpu.md": {"needs CUDA's compiler": 1, "needs a GPU": 1},
    "docs/howto/jetson.md": {"needs TensorRT": 1},
    "docs/howto/tensorrt.md": {"needs CUDA's compiler": 1, "needs TensorRT": 3},
    "docs/howto/tensorrt_ahead_of_time.md": {"needs TensorRT": 3},
    "docs/howto/tensorrt_rtx.md": {"needs a GPU": 2},
    "docs/howto/wheels.md": {"takes minutes": 1},
    "docs/howto/yolo.md": {"needs Ultralytics": 5},
    "docs/quickstart.md": {"installs": 1},
}
"""How many fences of a page are not run here, for which reason: more are to be seen in a review."""
PROGRAMS = ("simam-deploy ", "python ", "pip ", "make ", "cmake ", "trtexec ", "c++ ", "import ", "from ")
RUN = [page for page in pages() if any(fence.runs for fence in fences.fences(page))]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", RUN, ids=name)
def test_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := fences.lacks(page):
        pytest.skip(why)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    prepare(tmp_path)
    for fence, printed in run_page(page):
        assert alike(fence.text) == alike(printed), f"{fence.place}: python tests/docs/fences.py {name(page)}"


def test_what_is_not_run_is_counted_and_has_a_known_reason() -> None:
    found: dict[str, dict[str, int]] = {}
    for fence in (fence for page in pages() for fence in fences.fences(page) if fence.note):
        if fence.note == OUTPUT or fence.language.startswith("{"):
            continue
        reason = fence.note.removeprefix(NO_RUN)
        assert fence.note.startswith(NO_RUN), fence.place
        assert reason in REASONS, fence.place
        counts = found.setdefault(name(fence.page), {})
        counts[reason] = counts.get(reason, 0) + 1
    assert found == NOT_RUN


def test_no_command_hides_outside_a_fence_that_is_run() -> None:
    for page in pages():
        for fence in fences.fences(page):
            if fence.language not in LANGUAGES and fence.note != OUTPUT:
                assert not any(line.startswith(PROGRAMS) for line in fence.text.splitlines()), fence.place
        outside = fences.FENCE.sub("", page.read_text())
        indented = [line.strip() for line in outside.splitlines() if line.startswith("    ")]
        assert not [line for line in indented if line.startswith(PROGRAMS)], name(page)


def test_the_readme_is_short() -> None:
    """All its words count, those of code, outputs and tables too."""
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  1.5 ms  pass", "a 22.75 ms pass   ", True),
        ("a 1e-07 99.3%", "a 2.5e-06 1%", True),
        ("a  1.5 ms  pass", "a  1.5 ms  FAIL", False),
        ("a 1", "a 1\nb 1", False),
    ],
)
def test_outputs_differ_by_numbers_and_blanks_alone(shown: str, printed: str, same: bool) -> None:
    assert (alike(shown) == alike(printed)) is same


@pytest.mark.parametrize("text", ["simam-deploy inspect missing.onnx\n", "ls\n"])
def test_a_command_that_fails_or_is_none_of_ours_is_red(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=r"exit status 2|ls is not run here"):
        fences._run(Fence(ROOT / "README.md", 1, "sh", "", text), {})
