"""Models by name and their weights: what is taken, and the words for what is not."""

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from simam_deploy.errors import InputError, ModelFileError, ShapeError
from simam_deploy.pytorch.load_model import load

MODELS = """
import sys

import torch
from sibling_of_models import layer

from simam_deploy.errors import ShapeError

held = layer()
number = 3


def build():
    return layer()


def with_example():
    return layer(), torch.ones(1, 2)


def with_examples():
    return layer(), (torch.ones(1, 2), torch.zeros(3))


def with_list():
    return layer(), [torch.ones(1, 2)]


def training():
    return layer().train()


def no_tensor():
    return layer(), {"x": 1}


def empty_example():
    return layer(), ()


def three():
    return layer(), 1, 2


def wrong():
    return "a model"


def nothing():
    return None


def raises():
    raise KeyError("width")


def leaves():
    sys.exit(0)


def needs(width):
    return layer()


def refuses():
    raise ShapeError("of our own")
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with models.py and its sibling, where the user stands."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "sibling_of_models.py").write_text(
        "from torch import nn\n\n\ndef layer():\n    return nn.Linear(2, 3)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != ""])
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.partition(".")[0] in ("models", "sibling_of_models", "package_here", "_simam_deploy_source_models"):
            del sys.modules[name]


def test_a_file_from_anywhere_finds_its_siblings(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "elsewhere").mkdir()
    monkeypatch.chdir(home / "elsewhere")
    for spec in (f"{home}/models.py:build", "../models.py:build"):
        module, example = load(spec)
        assert isinstance(module, nn.Linear)
        assert example is None


def test_a_module_in_the_folder_where_one_stands(home: Path) -> None:
    (home / "package_here").mkdir()
    (home / "package_here" / "nets.py").write_text("from models import build\n")
    assert isinstance(load("models:build")[0], nn.Linear)
    assert isinstance(load("package_here.nets:build")[0], nn.Linear)


@pytest.mark.parametrize(
    ("name", "sizes"), [("with_example", [(1, 2)]), ("with_list", [(1, 2)]), ("with_examples", [(1, 2), (3,)])]
)
def test_examples_become_a_tuple(home: Path, name: str, sizes: list[tuple[int, ...]]) -> None:
    example = load(f"models.py:{name}")[1]
    assert isinstance(example, tuple)
    assert [tuple(part.shape) for part in example] == sizes


def test_the_module_is_in_eval_mode(home: Path) -> None:
    assert not load("models.py:training")[0].training


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("models", "'models' does not name a model; give package.module:callable or file.py:callable"),
        ("models.py", "does not name a model"),
        (":build", "does not name a model"),
        ("models.py:", "does not name a model"),
        ("nowhere.py:build", "there is no file nowhere.py"),
        ("no_such_module:build", r"no module named 'no_such_module'\nrun from the folder that holds it"),
        ("models.inner:build", "no module named 'models.inner'"),
        ("./models:build", "neither a module's dotted name nor a .py file"),
        ("..models:build", "neither a module's dotted name nor a .py file"),
        ("models.py:nope", "has no callable 'nope'; it has layer, .*build, with_example"),
        ("models.py:number", "has no callable 'number'"),
        ("models.py:held", "is a module already; name its class, or a function that returns it"),
        ("models.py:raises", r"models.py:raises\(\) failed: KeyError: 'width'"),
        ("models.py:leaves", r"failed: SystemExit: 0"),
        ("models.py:needs", "missing 1 required positional argument: 'width'"),
        ("models.py:wrong", r"returned str; it must return a module or \(module, example\)"),
        ("models.py:nothing", "returned NoneType"),
        ("models.py:three", "returned tuple; it must"),
        ("models.py:no_tensor", "returned an example that holds no tensor"),
        ("models.py:empty_example", "returned an example that holds no tensor"),
    ],
)
def test_a_spec_that_names_no_model(home: Path, spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(spec)


def test_names_that_no_file_can_have(home: Path) -> None:
    for name in ("a" * 5000, "a/" * 3000, "a\0b"):
        with pytest.raises(ModelFileError, match="there is no file"):
            load("models.py:build", f"{name}.pth")
        with pytest.raises(ModelFileError, match="there is no file"):
            load("models.py:build", f"{name}.pth:part")
        for spec in (name, f"{name}.py:build", f"{name}:build", f"{name}.pt"):
            with pytest.raises(InputError):
                load(spec)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "cannot import bad.py: SyntaxError"),
        ("import sys\nsys.exit(0)\n", "cannot import bad.py: SystemExit"),
        ("import not_there_at_all\n", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported(home: Path, text: str, words: str) -> None:
    (home / "bad.py").write_text(text)
    with pytest.raises(InputError, match=words):
        load("bad.py:build")
    assert "_simam_deploy_source_bad" not in sys.modules
    with pytest.raises(InputError):
        load("bad:build")


def test_our_own_errors_pass_as_they_are(home: Path) -> None:
    with pytest.raises(ShapeError, match=r"^of our own$"):
        load("models.py:refuses")


def weights() -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 2), 5.0), "bias": torch.arange(3.0)}


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_in_the_shapes_people_save_them(home: Path, key: str | None, prefix: str, zipped: bool) -> None:
    held: object = {prefix + name: value for name, value in weights().items()}
    torch.save(held if key is None else {"epoch": 3, key: held}, home / "w.pt", _use_new_zipfile_serialization=zipped)
    module, _ = load("models.py:build", home / "w.pt")
    for name, value in weights().items():
        assert torch.equal(module.state_dict()[name], value)


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"weight": torch.ones(3, 2)}, r"do not fit Linear:\n  missing: bias$"),
        ({**weights(), "extra": torch.ones(1)}, r"do not fit Linear:\n  left over: extra$"),
        ({**weights(), "weight": torch.ones(4, 2)}, r"weight: shape \(4, 2\) in the file, \(3, 2\) in the model$"),
        ({}, r"missing: weight\n  missing: bias"),
        ([torch.ones(1)], "holds no state_dict"),
        ({"weight": 3}, "holds no state_dict"),
        ({1: torch.ones(1)}, "holds no state_dict"),
    ],
)
def test_weights_that_do_not_fit(home: Path, held: object, words: str) -> None:
    torch.save(held, home / "w.pt")
    with pytest.raises(ModelFileError, match=words):
        load("models.py:build", home / "w.pt")


def test_many_misfits_are_cut_short(home: Path) -> None:
    (home / "deep.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential(*[nn.Linear(2, 2) for _ in range(9)])\n"
    )
    held = {f"{i}.{name}": torch.ones(1) for i in range(9) for name in ("weight", "bias")}
    torch.save(held, home / "w.pt")
    with pytest.raises(ModelFileError, match=r"0.weight: shape (.*\n){5}  and 13 more$"):
        load("deep.py:build", home / "w.pt")


def test_no_such_weights(home: Path) -> None:
    with pytest.raises(ModelFileError, match=r"there is no file w.pt"):
        load("models.py:build", "w.pt")
    with pytest.raises(ModelFileError, match="is a folder"):
        load("models.py:build", home)
    with pytest.raises(ModelFileError, match="/dev/null is no file with weights in it"):
        load("models.py:build", "/dev/null")
    os.mkfifo(home / "pipe")
    with pytest.raises(ModelFileError, match="pipe is no file with weights in it"):
        load("models.py:build", home / "pipe")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_weights(home: Path, zipped: bool) -> None:
    torch.save(weights(), home / "whole.pt", _use_new_zipfile_serialization=zipped)
    whole = (home / "whole.pt").read_bytes()
    for length in range(0, len(whole) - 1, 23):
        (home / "w.pt").write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="truncated"):
            load("models.py:build", "w.pt")


@pytest.mark.parametrize("content", [b"hello, I am no checkpoint", b"PK\x03\x04" + bytes(90), bytes(50)])
def test_what_is_no_checkpoint(home: Path, content: bytes) -> None:
    (home / "w.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"w.pt is not a file of torch.save, or is truncated"):
        load("models.py:build", "w.pt")


class Malicious:
    """Unpickled, it makes the folder `proof`."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("proof",)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_checkpoint_runs(home: Path, zipped: bool) -> None:
    torch.save({"state_dict": weights(), "x": Malicious()}, home / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match=r"holds a pickled \w+\.mkdir, not weights alone.*runs code"):
        load("models.py:build", "w.pt")
    assert not (home / "proof").exists()
    torch.load(home / "w.pt", weights_only=False)
    assert (home / "proof").exists()  # the file is as malicious as it should be


def test_a_pickled_class_in_a_zip_that_python_does_not_take(home: Path) -> None:
    torch.save({"x": Malicious()}, home / "w.pt")
    whole = bytearray((home / "w.pt").read_bytes())
    whole[whole.index(b"PK\x06\x07") + 4] = 1  # the disk of the directory; torch does not ask
    (home / "w.pt").write_bytes(whole)
    with pytest.raises(ModelFileError, match=r"holds a pickled \w+\.mkdir, not weights alone; opening it runs code"):
        load("models.py:build", "w.pt")


def test_plain_pickles_run_no_code_either(home: Path) -> None:
    (home / "w.pt").write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ModelFileError, match=r"w.pt"):
        load("models.py:build", "w.pt")
    assert not (home / "proof").exists()


def test_a_whole_pickled_model_is_refused_by_its_class(home: Path) -> None:
    torch.save(nn.Linear(2, 3), home / "w.pt")
    lines = r"pickled torch.nn.modules.linear.Linear.*\n  python -c .*\.state_dict\(\).* w.pt w.weights.pth\n  simam-"
    with pytest.raises(ModelFileError, match=lines):
        load("models.py:build", "w.pt")


def test_a_model_that_stands_in_a_folder_does_not_bring_the_folder_before_our_libraries(home: Path) -> None:
    """While it is imported and built its folder comes first, as for `python file.py`; behind that it comes last."""
    (home / "models.py").write_text(
        "import sys\nfrom torch import nn\n\nfirst = sys.path[0]\n\n\ndef build():\n    import colorsys\n\n"
        "    assert sys.path[0] == first\n    return nn.Linear(2, colorsys.width)\n"
    )
    (home / "colorsys.py").write_text("width = 5\n")
    (home / "later.py").write_text("found = True\n")
    sys.modules.pop("colorsys", None)
    for spec in ("models:build", "models.py:build"):
        assert load(spec)[0].out_features == 5
        assert sys.path[-1] == str(home)
        assert sys.path.count(str(home)) == 1
        del sys.modules["colorsys"]
    import colorsys

    import later

    assert hasattr(colorsys, "hls_to_rgb")
    assert later.found
    del sys.modules["later"]
