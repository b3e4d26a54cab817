"""The module itself: what it returns, and that it is left as it was."""

import warnings

import ml_dtypes
import numpy as np
import pytest

from simam_deploy import open_session
from simam_deploy.errors import InputError, RuntimeUnavailable
from simam_deploy.formula import reference, tolerance

torch = pytest.importorskip("torch")
nn = torch.nn

from simam_deploy.pytorch.module import SimAM  # noqa: E402


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.act = nn.ReLU(inplace=True)
        self.simam = SimAM(0.25)

    def forward(self, x, scale=1.0):
        return self.simam(self.act(self.norm(x)) * scale)


class Gives(nn.Module):
    """Returns whatever `give` makes of x and y."""

    def __init__(self, give) -> None:
        super().__init__()
        self.give = give
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x, y):
        return self.give(self, x, y)


X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_simam_is_the_formula(dtype: str) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7)).astype(dtype)
    with open_session(SimAM(0.1).eval(), "eager", dtype=dtype) as session:
        assert session.label == f"eager[{dtype}]"
        assert session.notes == []
        assert [str(spec) for spec in session.inputs] == [f"x: {dtype}[...]"]
        assert session.outputs == ()
        y = session.run({"x": x})["output"]
        assert [str(spec) for spec in session.outputs] == [f"output: {dtype}[...]"]
    assert (np.abs(y - reference(x, 0.1)) <= tolerance(x, dtype, 0.1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("training", ["all", "inside", "none"])
def test_the_module_is_left_as_it_was(dtype: str, training: str) -> None:
    net = Net().train(training == "all")
    net.norm.train(training != "none")
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    with open_session(net, "eager", dtype=dtype) as session:
        x = np.random.default_rng(0).standard_normal((4, 3, 5, 5)).astype(np.float32)
        given = x.copy()
        y = session.run({"x": x})["output"]
        norm = np.maximum(
            x.astype(np.float64) / np.sqrt(np.float64(1 + 1e-5)), 0
        )  # eval mode: running mean 0, variance 1
        assert (np.abs(y - reference(norm, 0.25)) <= 2 * tolerance(norm, dtype, 0.25)).all()
        np.testing.assert_array_equal(x, given)
        assert len(session.notes) == (training != "none") + (dtype == "float64")
        assert (session._module is net) == (session.notes == [])
    assert [module.training for module in net.modules()] == modes
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert torch.equal(tensor, before[name])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("give", "names"),
    [
        (lambda m, x, y: x + y, ["output"]),
        (lambda m, x, y: (x, [y, x]), ["output_0", "output_1_0", "output_1_1"]),
        (lambda m, x, y: {"boxes": x, "masks": (y,)}, ["boxes", "masks_0"]),
        (lambda m, x, y: (None, x, 3.0, "text", y), ["output_1", "output_4"]),
    ],
)
def test_outputs_are_flattened(give, names: list[str]) -> None:
    with open_session(Gives(give).eval(), "eager") as session:
        assert list(session.run({"x": X, "y": X})) == names


def test_results_are_the_callers() -> None:
    module = Gives(lambda m, x, y: (m.weight, x, x)).eval()
    with open_session(module, "eager") as session:
        weight, one, two = session.run({"x": X, "y": X}).values()
        weight[:] = 99
        one[:] = 99
        np.testing.assert_array_equal(two, X)
    assert torch.equal(module.weight, torch.ones(2))


def test_what_is_fed() -> None:
    indices = np.array([[2, 0, 1]])
    with open_session(Gives(lambda m, x, y: x.gather(1, y)).eval(), "eager", dtype="float64") as session:
        fed = {"x": X[:1, ::-1].astype(ml_dtypes.bfloat16), "y": indices}
        assert session.run(fed)["output"].tolist() == [[0, 2, 1]]
        assert session.outputs[0].dtype == np.float64
    with (
        open_session(Gives(lambda m, x, y: x).eval(), "eager") as session,
        pytest.raises(InputError, match=r"x: expected float32, got float64\s+y: expected float32, got float16"),
    ):
        session.run({"x": X.astype(np.float64), "y": X.astype(np.float16)})


def test_bfloat16_result() -> None:
    with open_session(Gives(lambda m, x, y: x.bfloat16().T).eval(), "eager") as session:
        y = session.run({"x": X, "y": X})["output"]
    assert y.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(y.astype(np.float32), X.T)


def test_a_cast_in_torchscript_is_no_float64_truth() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        cast = torch.jit.trace(lambda x: x.float(), torch.ones(2, 3, dtype=torch.float64))
    with (
        open_session(Gives(lambda m, x, y: cast(x)).eval(), "eager", dtype="float64") as session,
        pytest.raises(RuntimeUnavailable, match=r"returned output: float32\[\.\.\.\]: its forward casts"),
    ):
        session.run({"x": X, "y": X})


@pytest.mark.parametrize("fails", [False, True])
def test_threads_are_put_back(fails: bool) -> None:
    seen = []

    def give(m, x, y):
        seen.append(torch.get_num_threads())
        if fails:
            raise ZeroDivisionError
        return x

    before = torch.get_num_threads()
    with open_session(Gives(give).eval(), "eager", threads=before + 1) as session:
        assert torch.get_num_threads() == before
        if fails:
            with pytest.raises(ZeroDivisionError):
                session.run({"x": X, "y": X})
        else:
            session.run({"x": X, "y": X})
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


class Star(nn.Module):
    def forward(self, *xs):
        return xs[0]


class More(nn.Module):
    def forward(self, x, *args, **kwargs):
        return x * 2


def test_what_may_be_left_out_is_no_input() -> None:
    with open_session(More().eval(), "eager") as session:
        assert [spec.name for spec in session.inputs] == ["x"]
        np.testing.assert_array_equal(session.run({"x": X})["output"], 2 * X)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"opens an nn.Module; got str 'model.onnx'"):
        open_session("model.onnx", "eager")
    with pytest.raises(InputError, match="float32 or float64; got dtype='float16'"):
        open_session(SimAM(), "eager", dtype="float16")
    with pytest.raises(InputError, match=r"Star.forward takes \*args"):
        open_session(Star(), "eager")
    with (
        open_session(Gives(lambda m, x, y: None).eval(), "eager") as session,
        pytest.raises(InputError, match="the module returned no tensor"),
    ):
        session.run({"x": X, "y": X})
    with (
        open_session(Gives(lambda m, x, y: {"a": object(), "b": x}).eval(), "eager") as session,
        pytest.raises(InputError, match="must return tensors: a is of type object"),
    ):
        session.run({"x": X, "y": X})


def test_half_module_is_converted_and_says_so() -> None:
    module = nn.Linear(3, 2).half().eval()
    with open_session(module, "eager") as session:
        assert session.notes == ["copied, and converted from torch.float16 to float32"]
        assert session.run({"input": X})["output"].dtype == np.float32
    assert module.weight.dtype == torch.float16
