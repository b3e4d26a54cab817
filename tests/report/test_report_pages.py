"""A page stands alone, escapes every name, and holds the tables, the bars, and two pictures of each block."""

import base64
import html
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers.to_quantise import images, net, saved
from PIL import Image

import simam_deploy as sd
from simam_deploy.precision import layer_errors
from simam_deploy.report import pages as made
from simam_deploy.report.charts import Bar, bars

pytest.importorskip("matplotlib", reason="no matplotlib to draw with: the extra report")
ALL = ("analyze", "fp16", "int8", "verify", "hostile")


def sources(page: str) -> list[str]:
    return re.findall(r'\bsrc="([^"]*)"', page)


def rows(page: str) -> list[list[str]]:
    return [
        [html.unescape(re.sub("<[^>]*>", "", cell)) for cell in re.findall("<td.*?>(.*?)</td>", row)]
        for row in re.findall("<tr>(<td.*?)</tr>", page)
    ]


@pytest.mark.parametrize("name", ALL)
def test_a_page_stands_alone(name: str, pages) -> None:
    page = pages.by_name[name]
    assert all(source.startswith("data:image/") for source in sources(page))
    without = re.sub(r'src="data:[^"]*"', "", page)
    for word in ("http:", "https:", "//", "url(", "@import", "<script", "<link", "<iframe", "href", "onload"):
        assert word not in without, word
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in page


@pytest.mark.parametrize("name", ALL)
def test_every_picture_can_be_read_and_refers_to_nothing(name: str, pages) -> None:
    for source in sources(pages.by_name[name]):
        kind, _, text = source.partition(";base64,")
        data = base64.b64decode(text, validate=True)
        if kind == "data:image/webp":
            with Image.open(io.BytesIO(data)) as picture:
                picture.load()
            continue
        tree = ElementTree.fromstring(data)
        assert not [node for node in tree.iter() if node.tag.endswith("}script")]
        links = [value for node in tree.iter() for key, value in node.attrib.items() if key.endswith("href")]
        assert all(link.startswith("#") for link in links)


def test_names_are_escaped_and_shown(pages) -> None:
    for name in ("verify", "hostile"):
        page = pages.by_name[name]
        assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&quot;&amp;$\\frac{$\\x1b[31m層" in page
        assert "\x1b" not in page
        drawn = [base64.b64decode(s.partition(",")[2]).decode() for s in sources(page) if "svg" in s]
        assert any("&lt;script&gt;alert" in svg and "$\\frac{$\\x1b[31m層" in svg for svg in drawn)


@pytest.mark.parametrize(("name", "bars"), [("analyze", 1), ("fp16", 1), ("int8", 1), ("verify", 2)])
def test_there_are_bars_and_two_pictures_for_the_block(name: str, bars: int, pages) -> None:
    found = re.findall(r'<figure class="(\w+)"', pages.by_name[name])
    assert found == [*["bars"] * bars, "histogram", "maps"]


def test_the_tables_are_those_of_the_commands(pages) -> None:
    found = {name: rows(page) for name, page in pages.by_name.items()}
    assert ["simam", "SimAM"] in [row[:2] for row in found["analyze"]]
    assert found["analyze"][0][-2:] == ["safe as it is", "safe as it is"]
    assert ["conv1", "Conv", "int8", ""] in found["int8"]
    assert ["simam", "SimAM"] in [row[:2] for row in found["fp16"]]
    assert [row[-1] for row in found["verify"]] == ["pass", "FAIL", "FAIL"]
    assert len(found["verify"][0]) == 8


def test_bars_name_every_layer(pages) -> None:
    for name in ("fp16", "int8"):
        drawn = [base64.b64decode(s.partition(",")[2]).decode() for s in sources(pages.by_name[name])[:1]]
        for layer in ("Conv conv1", "SimAM simam", "Conv conv2", "Gemm fc"):
            assert layer in drawn[0]


def test_a_collapse_is_told(pages) -> None:
    page = html.unescape(pages.by_name["verify"])
    assert re.search(r"Mean gate 0\.7\d+ before; 0\.6226? in float16.onnx, changed by up to 0\.[23]", page)
    assert "its gate is 0.622 everywhere: the sum of squares overflows" in page


def test_an_epilogue_that_hides_the_gate_is_told(pages) -> None:
    words = "An epilogue hides the gate, so after is the formula on the x that the block got."
    assert [words in pages.by_name[name] for name in ("int8", "fp16")] == [True, False]


def test_without_samples_the_page_says_so(tmp_path) -> None:
    path, _ = saved(tmp_path, net())
    sd.convert(path, tmp_path / "low.onnx", to="fp16", report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "Without --inputs nothing was run, so no error and no gate is shown." in page
    assert not sources(page)


def test_the_same_numbers_give_the_same_page(pages, tmp_path) -> None:
    path = pages.folder / "net.onnx"
    sd.analyze(path, {"x": images(4)}, report=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text("utf-8") == pages.by_name["analyze"]


def test_what_is_left_out_is_told(pages, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(made, "MOST_BLOCKS", 0)
    monkeypatch.setattr(made, "MOST_BARS", 1)
    sd.analyze(pages.folder / "net.onnx", {"x": images(2)}, report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "The first 1 of 2 are drawn." in page
    assert "The first 0 of 1 are drawn." in page
    assert len(sources(page)) == 1


def test_a_file_that_differs_nowhere_has_no_bars_for_its_layers(pages, tmp_path) -> None:
    path = pages.folder / "net.onnx"
    sd.verify(path, inputs={"x": images(1)}, runtimes=["ort"], report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "net.onnx: the results of all 4 layers equal those of the float32 file." in page
    assert re.findall(r'<figure class="(\w+)"', page) == ["bars", "histogram", "maps"]


def test_why_layers_are_not_shown(pages, tmp_path) -> None:
    """The first file is int8, and the truth a module that computes something else."""
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    given = {"against": module, "inputs": {"x": images(1)}, "report": tmp_path / "page.html"}
    assert not sd.verify(pages.folder / "int8.onnx", **given).passed
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "int8.onnx: its layers are not shown, as no float file is given" in page
    assert '<p class="verdict bad">FAILED' in page


def test_a_file_that_cannot_be_looked_into_has_a_page_all_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    def refuse(*_: object) -> None:
        raise sd.InputError("node <b> is no block")

    monkeypatch.setattr(layer_errors, "expose", refuse)
    path, _ = saved(tmp_path, net())
    sd.convert(path, tmp_path / "low.onnx", to="fp16", inputs={"x": images(1)}, report=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "fp16: its layers are not shown: node &lt;b&gt; is no block" in page
    assert (tmp_path / "low.onnx").exists()


def test_limits_of_a_type_that_is_not_in_the_file_are_named(pages) -> None:
    words = "against the limits of fp16, which is not in this file."
    assert [words in pages.by_name[name] for name in ("int8", "fp16", "verify")] == [True, False, False]


@pytest.mark.parametrize(("value", "length"), [(np.inf, "all"), (-np.inf, "none"), (np.nan, "none"), (-3.0, "none")])
def test_bars_of_no_finite_length(value: float, length: str) -> None:
    rows = [Bar("a", {"b": value}, {"b": "words"}), Bar("c", {"b": 50.0}, {"b": "50"})]
    svg = base64.b64decode(bars(rows, "dB").partition(",")[2]).decode()
    paths = [re.findall(r"([\d.]+) [\d.]+", d) for d in re.findall(r'<path d="(M [^"]*z)', svg)]
    widths = [max(map(float, x)) - min(map(float, x)) for x in paths]
    assert "words" in svg
    first, second = widths[-2:]
    assert first > 1.1 * second if length == "all" else first == 0
