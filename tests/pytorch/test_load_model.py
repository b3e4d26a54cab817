"""Models by name: what is taken, and the words for what is not."""

import sys
from pathlib import Path

import pytest
from torch import nn

from simam_deploy.errors import InputError, ModelFileError, ShapeError
from simam_deploy.pytorch.load_model import load


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
