"""Kinds of files other than ONNX, detected by their bytes, and the commands that convert them to ONNX.

Does not run code in a file, and imports no framework.
"""

from __future__ import annotations

import io
import os
import shlex
import struct
import zipfile
from pathlib import Path

from simam_deploy.artifacts.pickles import (
    TORCH_MAGIC,
    Outline,
    Thing,
    has_names,
    is_array,
    is_dict,
    is_module,
    is_optimizer,
    is_tensor,
    outlines,
    places,
)

MOST_READ = 2**20
"""Upper bound on the bytes read of a pickle. A detector with its optimiser has some 300,000."""
MOST_DIRECTORY = 2**24
"""Upper bound on a zip directory in bytes. A checkpoint has some 60 for each tensor."""

# {file}, {onnx} and so on: its name with another suffix, {folder} the one it is in; all quoted for a shell
_FUSE = "\n  simam-deploy fuse {onnx} -o {simam}"
_ONE_WAY = "It does not turn back into ONNX: use the ONNX file that it was made from."
_KERAS = "a Keras model:\n  python -m tf2onnx.convert --keras {file} --output {onnx}" + _FUSE
_ULTRALYTICS = (
    "a model of Ultralytics, saved whole; opening it runs code, so it is not opened here. Ultralytics exports it:\n"
    "  yolo export model={file} format=onnx opset=17" + _FUSE + "\n"
    "or name a function that returns the model: simam-deploy export model.py:build -o {onnx}"
)
_YOLOV5 = (
    "a model of a YOLO repository, saved whole; opening it runs code, so it is not opened here. In that repository:\n"
    "  python export.py --weights {file} --include onnx" + _FUSE
)
_TAKE_OUT = (
    '  python -c "import pickle, sys, torch; torch.save({taken}, sys.argv[2])" {file} {pth}\n'
    "  simam-deploy export model.py:build --weights {pth} -o {onnx}"
)
_WHOLE = (
    "a {maker} that holds a pickled {held}, not weights alone; opening it runs code, and is refused. "
    "If you trust it, type where {held} can be imported:\n" + _TAKE_OUT
)
_PICKLED_WEIGHTS = (
    "a pickle of weights, not by torch.save; opening it runs code, and is refused. If you trust it:\n" + _TAKE_OUT
)
_WEIGHTS_INSIDE = "a file of weights, but not under a name. Take them out:\n" + _TAKE_OUT
_NONE_SEEN = "opening it runs code, so it is not opened here; no model and no weights of one are seen in it"
_WEIGHTS = (
    "a file of weights, without the code of their model. In model.py, let build() return the model and an example:\n"
    "  simam-deploy export model.py:build --weights {file} -o {onnx}"
)
_LIGHTNING = _WEIGHTS.replace("a file of weights,", "a checkpoint of PyTorch Lightning,")
_SCRIPT = (
    "a TorchScript program. Torch exports it, here for one size of input:\n"
    '  python -c "import sys, torch; torch.onnx.export(torch.jit.load(sys.argv[1]), (torch.zeros(1, 3, 224, 224),), '
    'sys.argv[2], dynamo=False)" {file} {onnx}' + _FUSE
)
_PROGRAM = (
    "a program of torch.export. Torch exports it:\n"
    '  python -c "import sys, torch; torch.onnx.export(torch.export.load(sys.argv[1]), f=sys.argv[2])" {file} {onnx}'
    + _FUSE
)
_SAVED_MODEL = "a TensorFlow model:\n  python -m tf2onnx.convert --saved-model {folder} --output {onnx}" + _FUSE
_LITE = "a TensorFlow Lite model:\n  python -m tf2onnx.convert --tflite {file} --output {onnx}" + _FUSE
_ENGINE_BEHIND = (
    "an engine behind the metadata of Ultralytics, and TensorRT loads it only without these:\n"
    "  tail -c +{first} {file} > {plain}"
)
_CODE = "Python code; name the function in it that returns the model:\n  simam-deploy export {file}:build -o {onnx}"

_ZLIB = (b"\x01", b"\x5e", b"\x9c", b"\xda")
_BY_HEAD = (
    (0, b"ftrt", f"a TensorRT engine. {_ONE_WAY}"),
    (0, b"vtrt", f"a TensorRT-RTX engine. {_ONE_WAY}"),
    (0, b"\x89HDF\r\n\x1a\n", _KERAS),
    (4, b"TFL3", _LITE),
    (4, b"ORTM", f"a model in ONNX Runtime's own format. {_ONE_WAY}"),
    (0, b"7767517", f"an ncnn model. {_ONE_WAY}"),
    (0, b"RKNN", f"a model for RKNN. {_ONE_WAY}"),
    (0, b"\x93NUMPY", "an array of NumPy, and no model"),
    (0, b"\x1f\x8b", "compressed with gzip; unpack it first"),
    *((0, b"x" + level, "compressed with zlib, as joblib does; no model is seen in it") for level in _ZLIB),
    (257, b"ustar", "a tar archive; unpack it first"),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS, in place of the file itself; get that with:\n  git lfs pull",
    ),
)
_OF_WEIGHTS = {"torch", "torch._utils", "torch._tensor", "torch.nn.parameter", "torch.storage", "torch.serialization"}
_OF_WEIGHTS |= {"collections", "builtins", "__builtin__", "copyreg", "copy_reg", "_codecs"}
_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42\x72"
"""Field tags that may follow the IR version in an ONNX file."""
_WRAPPERS = ("state_dict", "model_state_dict", "state_dict_ema", "params_ema", "params")
_SETTINGS = ("hyper_parameters", "args", "cfg", "config", "opt", "options")


def what_is(path: str | os.PathLike[str]) -> str:
    """Describe a file that is not ONNX, with commands to convert it: `x.pt is ...`; "" if unknown.

    Reads at most 1 MiB, and the directory of a zip. Raises nothing.
    """
    file = Path(path)
    try:
        if not is_file(file):  # a pipe would wait
            return ""
        words = _kind(file)
    except Exception:  # of zipfile and what it calls, in many types
        return ""
    names = {"file": file, "folder": file.parent, "onnx": file.with_suffix(".onnx")}
    names |= {"simam": file.with_suffix(".simam.onnx"), "pth": file.with_suffix(".weights.pth")}
    names |= {"plain": file.with_suffix(".plain.engine")}
    return words and f"{file} is " + words.format(**{name: shlex.quote(str(place)) for name, place in names.items()})


def is_file(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file of that name exists; False for names that are too long."""
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as safetensors does: the length of the header in 8 bytes, then JSON. Raises OSError."""
    with Path(path).open("rb") as stream:
        head = stream.read(9)
        return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= os.fstat(stream.fileno()).st_size - 8


def looks_like_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether a file unknown to `what_is` may be ONNX, by its name, or by an IR version and another field at its
    start.

    Raises OSError.
    """
    with Path(path).open("rb") as stream:
        head = stream.read(3)
    begins = len(head) == 3 and head[0] == 8 and head[1] < 32 and head[2] in _FIELDS
    return begins or (Path(path).suffix.lower() == ".onnx" and head[:1] not in (b"", b"\0"))


def _kind(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(512)
        by_head = [words for offset, magic, words in _BY_HEAD if head[offset:].startswith(magic)]
        if by_head:
            return by_head[0]
        if head.startswith(b"PK\x03\x04"):
            return _zipped(stream)
        if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
            stream.seek(0)
            return _pickled(stream.read(MOST_READ))
        if head[4:5] == b"{":
            stream.seek(first := 4 + int.from_bytes(head[:4], "little"))
            if stream.read(4) in (b"ftrt", b"vtrt"):
                return _ENGINE_BEHIND.replace("{first}", str(first + 1))
        if head[:1] in (b"(", b"c", b"]", b"}"):  # protocols 0 and 1 have no mark
            stream.seek(0)
            data = stream.read(MOST_READ)
            if (found := outlines(data)) and found[0].whole:
                return _pickled(data)
    text = head.lstrip().lower()
    kinds = (
        (is_safetensors(file), _WEIGHTS),
        (text.startswith((b"<!doctype html", b"<html")), "a web page, and no model: the download went wrong"),
        (text.startswith(b"<?xml") and b"<net " in text, f"a model of OpenVINO. {_ONE_WAY}"),
        (
            file.suffix == ".bin" and file.with_suffix(".xml").is_file(),
            f"the weights of a model of OpenVINO. {_ONE_WAY}",
        ),
        (file.name == "saved_model.pb", _SAVED_MODEL),
        (file.suffix == ".py", _CODE),
    )
    return next((words for holds, words in kinds if holds), "")


def _zipped(stream: io.BufferedReader) -> str:
    if _directory_size(stream) > MOST_DIRECTORY:
        return "an archive of very many files, and no model"
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        inner = {name.partition("/")[2]: name for name in names}  # PyTorch puts all into one folder
        kinds = (
            ("archive_format" in inner or "serialized_exported_program.json" in names, _PROGRAM),
            ("constants.pkl" in inner, _SCRIPT),
            ("model.weights.h5" in names, _KERAS),
            (all(name.endswith(".npy") for name in names), "an archive of NumPy arrays, and no model"),
        )
        words = [words for holds, words in kinds if holds]
        if words or "data.pkl" not in inner:
            return words[0] if words else "a zip archive; unpack it first"
        with archive.open(inner["data.pkl"]) as pickle:
            return _pickled(pickle.read(MOST_READ), zipped=True)


def _directory_size(stream: io.BufferedReader) -> int:
    """Size of the zip directory in bytes, which zipfile reads at once; the largest of all candidates."""
    stream.seek(0, os.SEEK_END)
    stream.seek(max(0, stream.tell() - 2**17))
    end, sizes = stream.read(), [0]
    for mark, place, form in ((b"PK\x05\x06", 12, "<L"), (b"PK\x06\x06", 40, "<Q")):
        at = end.find(mark)
        while at >= 0:
            if len(end) >= at + place + 8:
                (size,) = struct.unpack_from(form, end, at + place)
                sizes.append(0 if size == 2**32 - 1 else size)  # then it stands in the larger record
            at = end.find(mark, at + 1)
    return max(sizes)


def _pickled(data: bytes, *, zipped: bool = False) -> str:
    """Description of pickles: of torch.save, one in a zip or several in a row, or of other programs."""
    found = outlines(data)
    in_a_row = bool(found) and found[0].value == TORCH_MAGIC
    saved = next(iter(found[3 * in_a_row :]), Outline())
    foreign = [each for each in saved.names if each.rpartition(".")[0] not in _OF_WEIGHTS]
    makers = {
        "joblib.": f"a file of joblib; {_NONE_SEEN}",
        "ultralytics.": _ULTRALYTICS,
        "models.yolo.": _YOLOV5,
        "models.common.": _YOLOV5,
    }
    said = [words for start, words in makers.items() if any(each.startswith(start) for each in foreign)]
    if said or saved.value is None:
        return said[0] if said else ""
    by_torch = zipped or in_a_row
    keys, way = _weights_in(saved.value)
    if not way:
        return f"a {'file of PyTorch' if by_torch else 'pickle'} that holds {_held(saved, foreign)}"
    module = next(thing for at, thing in places(saved.value) if at == keys)
    whole = module.name if is_module(module) else ""
    if by_torch and not foreign and all(isinstance(key, str) for key in keys):
        return _LIGHTNING if "pytorch-lightning_version" in _keys(saved.value) else _WEIGHTS
    opened = f"torch.load(sys.argv[1], weights_only={not foreign})"
    opened = opened if by_torch else "pickle.load(open(sys.argv[1], 'rb'))"
    taken = way.replace("{}", opened + "".join(f"[{key!r}]" for key in keys))
    unnamed = _WEIGHTS_INSIDE if by_torch else _PICKLED_WEIGHTS
    blank = {"maker": "file of PyTorch" if by_torch else "pickle", "held": _shown(whole or next(iter(foreign), ""))}
    words = _WHOLE if foreign else unnamed
    for name, text in {**blank, "taken": taken.replace("{", "{{").replace("}", "}}")}.items():
        words = words.replace(f"{{{name}}}", text)
    return words


def _weights_in(value: object) -> tuple[tuple[str | int, ...], str]:
    """Keys of the best weights or module in a value, and the expression that extracts weights from it, or ""."""
    found: list[tuple[int, tuple[str | int, ...], str]] = []
    for keys, held in places(value):
        last = keys[-1] if keys else ""
        unnamed = 50 * any(isinstance(key, int) for key in keys)
        if has_names(held, is_tensor):
            known = (*_WRAPPERS, "model", "net", "")
            rank = known.index(last) if isinstance(last, str) and last in known else 150
            found.append((rank + unnamed, keys, "{}"))
        elif is_module(held):
            found.append(((300 if last in _SETTINGS else 100) + unnamed, keys, "{}.state_dict()"))
        elif has_names(held, is_array) and any("." in key for key in _keys(held)):
            found.append((400 + unnamed, keys, "{k: torch.as_tensor(v) for k, v in {}.items()}"))
    return min(found, key=lambda each: each[0], default=(0, (), ""))[1:]


def _held(saved: Outline, foreign: list[str]) -> str:
    """Description of the content without extractable weights."""
    value = saved.value
    inside = value.items if isinstance(value, Thing) and value.kind != "object" else []
    kind = _shown((value.name or value.kind) if isinstance(value, Thing) else type(value).__name__)
    alone = "and no model nor the weights of one"
    kinds = (
        (is_tensor(value), f"one tensor, {alone}"),
        (is_array(value), "an array of NumPy, and no model"),
        (is_optimizer(value), f"the state of an optimizer, {alone}"),
        (any(map(is_tensor, inside)), f"a {kind} of tensors without names, {alone}"),
        (any(map(is_array, inside)), f"a {kind} of NumPy arrays, and no model"),
        (bool(foreign), f"a pickled {_shown(next(iter(foreign), ''))}; {_NONE_SEEN}"),
        (not saved.whole, f"no model and no weights of one in its first {MOST_READ >> 20} MiB"),
    )
    said = next((words for holds, words in kinds if holds), "")
    return said or f"a value of type {kind} with no tensors in it, and no model"


def _keys(value: object) -> list[str]:
    pairs = value.entries() if isinstance(value, Thing) and is_dict(value) else ()
    return [key for key, _ in pairs if isinstance(key, str)]


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:100].replace("{", "").replace("}", "")
