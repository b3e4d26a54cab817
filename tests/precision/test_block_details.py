"""Histograms by powers of two, and maps of the gate."""

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from helpers.to_quantise import images, net

from simam_deploy import formula
from simam_deploy.precision import analyze as analysing
from simam_deploy.precision import layer_errors
from simam_deploy.precision.analyze import analyze
from simam_deploy.precision.block_details import (
    LARGEST_MAP,
    BlockDetail,
    Octaves,
    gate_map,
    mean_and_change,
    picture_of,
)
from simam_deploy.precision.flat import flat


def test_values_are_counted_by_the_power_of_two_below_them() -> None:
    held = Octaves()
    held.take(np.array([1, 1.99, -2, 3.9, 4, 0, -0.0, 0.5, np.inf, -np.inf, np.nan, 2.0**-149], np.float32))
    held.take(np.array([1.5], np.float32))
    assert held.counts == {0: 3, 1: 2, 2: 1, -1: 1, -149: 1}
    assert (held.zeros, held.beyond) == (2, 3)


def test_a_block_keeps_the_planes_of_every_sample_and_the_map_of_the_first() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((2, 3, 8, 4)).astype(np.float32) for _ in range(2))
    detail = BlockDetail("block", 1e-4)
    for x in (first, second):
        detail.take(x)
        detail.compare("fp16", x, formula.reference(x).astype(np.float16))
    assert (detail.x.counts.total(), detail.squares.counts.total(), detail.sums.counts.total()) == (384, 384, 12)
    d = (first.astype(np.float64) - first.mean(axis=(2, 3), keepdims=True, dtype=np.float64)) ** 2
    assert min(detail.sums.counts) <= np.log2(d.sum(axis=(2, 3)).min())
    gate, weights = formula.gate(first)[0], np.abs(first[0])
    np.testing.assert_allclose(detail.before, (gate * weights).sum(0) / weights.sum(0), rtol=1e-6)
    np.testing.assert_allclose(detail.after["fp16"], detail.before, atol=1e-3)
    assert detail.m == 32
    assert 0 < mean_and_change(detail, "fp16")[1] < 1e-3


def test_a_gate_behind_an_epilogue_is_that_of_the_formula() -> None:
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)
    detail = BlockDetail("block", 0.1)
    detail.take(x)
    assert not detail.hidden
    detail.compare("int8", x, None)
    assert detail.hidden
    np.testing.assert_array_equal(detail.after["int8"], detail.before)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_what_is_no_number_has_no_gate(dtype: type) -> None:
    x = np.ones((1, 2, 2), dtype)
    x[0, 0, 0] = 0
    y = np.array([[[0, np.inf], [np.nan, 0.75]]], dtype)
    np.testing.assert_array_equal(gate_map(x.astype(float), y.astype(float)), [[np.nan, np.nan], [np.nan, 0.75]])


def test_no_number_is_an_infinite_change() -> None:
    detail = BlockDetail("block", 1e-4, before=np.full((2, 2), 0.7, np.float32))
    detail.after = {"some": np.array([[0.7, np.nan], [0.7, 0.7]]), "none": np.full((2, 2), np.nan)}
    assert mean_and_change(detail, "some") == (pytest.approx(0.7), np.inf)
    mean, change = mean_and_change(detail, "none")
    assert np.isnan(mean)
    assert change == np.inf


def test_values_that_are_no_number_are_no_error() -> None:
    x = np.full((1, 2, 4, 4), np.inf, np.float32)
    x[0, 1] = np.nan
    detail = BlockDetail("block", 1e-4)
    detail.take(x)
    detail.compare("fp16", x, x)
    assert (detail.x.beyond, detail.squares.beyond, detail.sums.beyond) == (32, 32, 2)
    assert np.isnan(detail.after["fp16"]).all()
    assert np.isnan(mean_and_change(detail, "fp16")).all()


@pytest.mark.parametrize("size", [(600, 300), (1, 1000), (256, 256), (257, 3)])
def test_maps_are_bounded(size: tuple[int, int]) -> None:
    x = np.ones((3, *size))
    found = gate_map(x, 0.7 * x)
    assert max(found.shape) <= LARGEST_MAP
    np.testing.assert_allclose(found, 0.7, rtol=1e-6)


def test_a_picture_is_one_input_of_one_or_three_channels() -> None:
    rng = np.random.default_rng(0)
    for channels, there in ((1, True), (3, True), (2, False), (4, False)):
        found = picture_of([rng.standard_normal((2, channels, 4, 6)).astype(np.float32)])
        assert (found is not None) == there
        if found is not None:
            assert (found.shape, found.min(), found.max()) == ((4, 6, channels), 0, 1)
    one = np.ones((1, 3, 4, 4), np.float32)
    assert picture_of([one]) is not None
    assert picture_of([one, one]) is None
    assert picture_of([one[0]]) is None
    assert picture_of([one * np.nan]) is None


def test_blocks_beyond_the_bound_have_no_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysing, "MOST_MAPS", 0)
    monkeypatch.setattr(layer_errors, "MOST_MAPS", 0)
    model, x = flat(ir.from_proto(net()))[0], images(1)
    found = analyze(model, [{"x": x}], details=True), layer_errors.compare_layers("same", model, model, [[x]])
    for (detail,) in (found[0].details, found[1].blocks):
        assert (detail.before, detail.after, detail.sums.counts.total()) == (None, {}, 6)


def test_analyze_keeps_them_on_request() -> None:
    model, x = flat(ir.from_proto(net()))[0], images(3)
    assert analyze(model, [{"x": x}]).details == ()
    found = analyze(model, [{"x": x[:1]}, {"x": x[1:]}], details=True)
    (detail,) = found.details
    assert (detail.block, sorted(detail.after), detail.sums.counts.total()) == ("simam", ["bf16", "fp16"], 3 * 6)
    assert found.picture is not None
    np.testing.assert_array_equal(found.picture, picture_of([x]))
