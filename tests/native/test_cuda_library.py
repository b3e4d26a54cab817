"""The op library for CUDA without a GPU: found, chosen, said; a real ONNX Runtime runs its operators for the CPU."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from helpers.cases import make
from helpers.graphs import file

from simam_deploy import native, open_session
from simam_deploy.cli import doctor
from simam_deploy.errors import NativeError, RuntimeUnavailable
from simam_deploy.formula import reference, tolerance
from simam_deploy.runtimes import KernelUse, ort

onnxruntime = pytest.importorskip("onnxruntime")
CPU, CUDA = native.CPU, native.CUDA
NAME = native.LIBRARIES[CUDA].name
BUILD_IT = (
    "no kernel library for CUDA: build it with `make native-cuda` in a checkout of simam-deploy; "
    "or name its file with SIMAM_LIBRARY"
)


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No library anywhere."""
    monkeypatch.delenv(native.VARIABLE, raising=False)
    for place in ("PACKAGE", "CHECKOUT", "CHECKOUT_CUDA"):
        (tmp_path / place).mkdir()
        monkeypatch.setattr(native, place, tmp_path / place)
    return tmp_path


@pytest.fixture
def cuda_runtime(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """onnxruntime as with a GPU: sessions compute on the CPU and say CUDA. What is registered is written down."""
    seen = SimpleNamespace(registered=[], fails="")

    class Options(onnxruntime.SessionOptions):
        def register_custom_ops_library(self, path: str) -> None:
            seen.registered.append(Path(path).name)
            if seen.fails:
                raise RuntimeError(seen.fails)
            super().register_custom_ops_library(path)

    class AsOnAGpu(onnxruntime.InferenceSession):
        def __init__(self, path: str, options: Options, providers: list[str]) -> None:
            assert providers == [CUDA]
            super().__init__(path, options, providers=[CPU])

        def get_providers(self) -> list[str]:
            return [CUDA, CPU]

    module = SimpleNamespace(
        SessionOptions=Options,
        InferenceSession=AsOnAGpu,
        get_available_providers=lambda: [CUDA, CPU],
        __version__=onnxruntime.__version__,
    )
    monkeypatch.setattr(ort, "framework", lambda *_: module)
    return seen


# finding it


def test_each_provider_has_a_library_of_its_own(
    nowhere: Path, fake_cuda: Path, library: native.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.library(CUDA) is None
    assert native.why_not(CUDA) == BUILD_IT
    shutil.copy(library.path, nowhere / "CHECKOUT" / native.NAME)
    assert native.library(CUDA) is None
    shutil.copy(fake_cuda, nowhere / "CHECKOUT_CUDA" / NAME)
    both = [native.library(provider) for provider in (CPU, CUDA)]
    assert [found and found.path.name for found in both] == [native.NAME, NAME]
    assert [found and found.providers for found in both] == [(CPU,), (CPU, CUDA, "CudaPluginExecutionProvider")]
    monkeypatch.setenv(native.VARIABLE, str(fake_cuda))  # one library for both
    assert [found and found.path for found in map(native.library, (CPU, CUDA))] == [fake_cuda, fake_cuda]


def test_the_variable_may_name_one_without_cuda(
    nowhere: Path, fake_cuda: Path, library: native.Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(fake_cuda, nowhere / "PACKAGE" / NAME)
    monkeypatch.setenv(native.VARIABLE, str(library.path))
    assert native.library(CUDA) is None  # what is named is the one
    assert native.why_not(CUDA) == (
        f"SIMAM_LIBRARY names {library.path}, which has no operators for CUDAExecutionProvider; "
        "unset it, or name another"
    )


def test_a_broken_one_says_how_it_is_built_again(nowhere: Path) -> None:
    (nowhere / "CHECKOUT_CUDA" / NAME).write_text("no library")
    with pytest.raises(NativeError, match=r"is no library of Linux; build it again: `make native-cuda`"):
        native.library(CUDA)
    assert native.library(CPU) is None


# choosing it


def test_a_session_on_cuda_takes_the_library_for_cuda(
    nowhere: Path, fake_cuda: Path, library: native.Library, cuda_runtime: SimpleNamespace
) -> None:
    shutil.copy(library.path, nowhere / "PACKAGE" / native.NAME)
    shutil.copy(fake_cuda, nowhere / "PACKAGE" / NAME)
    for kernel in ("auto", "require"):
        with open_session(file(nowhere), provider=CUDA, kernel=kernel) as session:
            assert session.notes == []
            # it really ran on the CPU: that is no kernel for CUDA
            assert session.kernel_use({"x": make("plain", (1, 3, 5, 7))}) == KernelUse(0, 1, "cuda")
    assert set(cuda_runtime.registered) == {NAME}
    with open_session(file(nowhere), provider=CUDA, kernel="off") as session:
        assert session.notes == []
    assert cuda_runtime.registered.count(NAME) == 4


def test_without_it_the_fallback_definition_runs_and_says_so(
    nowhere: Path, library: native.Library, cuda_runtime: SimpleNamespace
) -> None:
    shutil.copy(library.path, nowhere / "PACKAGE" / native.NAME)  # that for the CPU would copy to the host and back
    with open_session(file(nowhere), provider=CUDA) as session:
        assert session.notes == [f"SimAM runs as the fallback definition in the file: {BUILD_IT}"]
    with pytest.raises(RuntimeUnavailable, match=r"the kernel in .*, but no kernel library for CUDA: "):
        open_session(file(nowhere), provider=CUDA, kernel="require")
    with pytest.raises(
        RuntimeUnavailable, match=r"no fallback definition in the file, and no kernel library for CUDA: build it"
    ):
        open_session(file(nowhere, "custom_op"), provider=CUDA)
    assert cuda_runtime.registered == []


def test_kernels_that_cannot_be_loaded_leave_the_fallback_definition(
    nowhere: Path, fake_cuda: Path, cuda_runtime: SimpleNamespace
) -> None:
    shutil.copy(fake_cuda, nowhere / "PACKAGE" / NAME)
    cuda_runtime.fails = "SimAM: its kernels cannot be loaded into this GPU: cudaError_t 209"
    with open_session(file(nowhere), provider=CUDA) as session:
        (note,) = session.notes
        assert (
            note
            == f"SimAM runs as the fallback definition in the file: with the kernel library, {cuda_runtime.fails}"
        )
    with pytest.raises(RuntimeUnavailable, match="cannot be loaded into this GPU: cudaError_t 209"):
        open_session(file(nowhere), provider=CUDA, kernel="require")


@pytest.mark.usefixtures("cuda_runtime")
def test_a_specialised_file_is_for_the_cpu(nowhere: Path, fake_cuda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(fake_cuda, nowhere / "PACKAGE" / NAME)
    monkeypatch.setattr(
        ort.onnx_model, "specialisation", lambda _: {"machine": "x86_64 avx2", "onnxruntime": "1.32.0"}
    )
    with pytest.raises(RuntimeUnavailable, match="on CUDAExecutionProvider: it is specialised for the CPU of x86"):
        open_session(file(nowhere), provider=CUDA)


def test_the_doctor_says_who_runs_on_cuda(
    nowhere: Path, fake_cuda: Path, cuda_runtime: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor._try_session(file(nowhere), "ort", CUDA).endswith(f"fallback definition in the file: {BUILD_IT}")
    monkeypatch.setenv(native.VARIABLE, str(fake_cuda))
    monkeypatch.setattr(ort.OrtSession, "kernel_use", lambda *_: KernelUse(1, 1, "cuda"))
    assert doctor._try_session(file(nowhere), "ort", CUDA).endswith("; SimAM runs as kernel (cuda)")
    assert cuda_runtime.registered == [fake_cuda.name]


# a real ONNX Runtime: one name, a kernel for each provider


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("form", ["function", "custom_op"])
def test_nodes_on_the_cpu_get_the_kernel_for_the_cpu(
    form: str, dtype: type, tmp_path: Path, fake_cuda: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(native.VARIABLE, str(fake_cuda))
    path = file(tmp_path, form)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    onnx.save(model, path)
    x = make("plain", (2, 3, 5, 7)).astype(dtype)
    with open_session(path, kernel="require") as session:
        assert (np.abs(session.run({"x": x})["y"] - reference(x)) <= tolerance(x, dtype)).all()
        use = session.kernel_use({"x": x})
    assert (use.ran, use.of) == (1, 1)
    assert use.target in ("avx512", "avx2", "baseline")


def test_every_operator_is_there(tmp_path: Path, fake_cuda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, str(fake_cuda))
    x, one, two = (make("plain", (1, 2, 3, 4)), np.ones(2, np.float32), np.full(2, 2, np.float32))
    for end, activate in (("", lambda v: v), ("Relu", lambda v: v.clip(0)), ("Silu", lambda v: v / (1 + np.exp(-v)))):
        for add in ("", "Add"):
            inputs = "x, s, b, x" if add else "x, s, b"
            model = onnx.parser.parse_model(
                '<ir_version: 8, opset_import: ["": 18, "simam": 1]> '
                "g (float[1,2,3,4] x, float[2] s, float[2] b) => (float[1,2,3,4] y) "
                f"{{ y = simam.SimAMAffine{add}{end} ({inputs}) }}"
            )
            onnx.save(model, tmp_path / "m.onnx")
            with open_session(tmp_path / "m.onnx", kernel="require") as session:
                y = session.run({"x": x, "s": two, "b": one})["y"]
            expected = activate(2 * reference(x) + 1 + (x if add else 0))
            np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5)
