"""Cost of each layer in int8, and layers that go back to float32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.to_quantise import NET, images, net, saved, unequal_planes, weights

from simam_deploy.errors import InputError
from simam_deploy.precision.attempts import int8_attempts
from simam_deploy.precision.calibrate import Calibration, calibrate
from simam_deploy.precision.quantise import quantise
from simam_deploy.precision.quantised import Quantised
from simam_deploy.precision.samples import Samples
from simam_deploy.precision.sensitivity import Metric, as_in, fall_back, opened, sensitivity, snr
from simam_deploy.runtimes import Session

Calibrated = tuple[Calibration, Samples]
FC = {"fc": "asked for"}


def costs(calibration: Calibration, samples: Samples, kept: dict[str, str] | None = None, **given: Any) -> list:
    return sensitivity(calibration.float32(), int8_attempts(calibration, "cpu", kept or {}), samples, **given)


def fallen(
    calibration: Calibration, samples: Samples, target: str = "cpu", kept: dict[str, str] | None = None, **bounds: Any
) -> Quantised:
    kept = kept or {}
    back = fall_back(calibration.float32(), int8_attempts(calibration, target, kept), samples, **bounds)
    return quantise(calibration, target, keep_float={**kept, **back})


@pytest.fixture(scope="module")
def bad_second(tmp_path_factory: pytest.TempPathFactory) -> Calibrated:
    """One outlier in w2 for each output channel: a scale that leaves little of the others."""
    w2 = weights()["w2"].copy()
    w2[:, 0, 0, 0] = 25
    path, samples = saved(tmp_path_factory.mktemp("net"), net(given={"w2": w2}))
    return calibrate(path, samples), samples


def test_the_worst_layer_is_first(bad_second: Calibrated) -> None:
    said: list[str] = []
    found = costs(*bad_second, on_progress=said.append)
    assert [layer.node for layer in found] == ["conv2", "conv1", "fc"]
    assert found[0].snr_db < found[1].snr_db - 3
    assert said == [
        f"layer {i} of 3 alone converted: {name}" for i, name in enumerate(("conv1", "conv2", "fc"), start=1)
    ]


def test_as_few_layers_as_the_bound_needs_go_back(bad_second: Calibrated) -> None:
    calibration, samples = bad_second
    found = costs(calibration, samples)
    made = fallen(calibration, samples, min_snr=found[1].snr_db - 4)
    assert made.integer == ("conv1", "fc")
    (reason,) = [row.reason for row in made.rows if row.reason]
    assert f"alone converted it gives {found[0].snr_db:.1f} dB; all give" in reason
    assert f"below {found[1].snr_db - 4:g}" in reason


def test_what_is_kept_stays_float_with_or_without_a_bound(bad_second: Calibrated) -> None:
    calibration, samples = bad_second
    assert "fc" not in {layer.node for layer in costs(calibration, samples, FC)}
    assert fallen(calibration, samples, kept=FC, min_snr=1).integer == ("conv1", "conv2")
    made = fallen(calibration, samples, kept=FC, min_snr=36)
    assert made.integer == ("conv1",)
    assert {row.node: row.reason for row in made.rows}["fc"] == "asked for"


def test_a_bound_that_holds_leaves_all(bad_second: Calibrated) -> None:
    assert len(fallen(*bad_second, min_snr=1).integer) == 3


def test_a_bound_that_no_layer_holds_leaves_none(bad_second: Calibrated) -> None:
    made = fallen(*bad_second, "tensorrt", min_snr=500)
    assert (made.integer, made.q) == ((), 0)


def metric_of(made: Quantised, metric: Metric) -> float:
    with opened(made.model) as session:
        return metric(session)


def test_a_metric_of_the_user(bad_second: Calibrated) -> None:
    calibration, samples = bad_second
    feed = {"x": images()}
    with opened(calibration.float32()) as session:
        exact = session.run(feed)

    def metric(session: Session) -> float:
        return min(snr([exact], iter([session.run(feed)])), 100)

    worst = metric_of(quantise(calibration, "cpu"), metric)
    made = fallen(calibration, samples, max_drop=99 - worst, metric=metric)
    assert made.integer == ("conv1", "fc")
    assert f"all give a drop of {100 - worst:.4g}, above {99 - worst:g}" in str(made.rows)


def test_agreement_of_labels(bad_second: Calibrated) -> None:
    calibration, samples = bad_second
    with opened(calibration.float32()) as session:
        exact = [session.run(feed) for feed in samples]
        assert as_in(exact, samples)(session) == 1
        other = [{"y": np.roll(run["y"], 1, axis=1)} for run in exact]
        assert as_in(other, samples)(session) == 0
    with pytest.raises(InputError, match=r"a share of labels.*; the outputs \(1, 5, 1\), \(2,\) hold none"):
        as_in([{"y": exact[0]["y"][..., None], "z": np.zeros(2)}], samples)
    assert len(fallen(calibration, samples, max_drop=1).integer) == 3


def test_no_bound(bad_second: Calibrated) -> None:
    with pytest.raises(InputError, match="until a bound holds; give min_snr or max_drop"):
        fallen(*bad_second)


def test_snr() -> None:
    one, off = {"y": np.array([3.0, 4.0])}, {"y": np.array([3.0, 4.5])}
    assert snr([one], iter([off])) == pytest.approx(20)
    assert snr([one, one], iter([one, off])) == pytest.approx(20 + 10 * np.log10(2))
    assert snr([one], iter([one])) == np.inf
    assert snr([one], iter([{"y": np.array([np.nan, 4])}])) == -np.inf
    both = {**one, "z": np.array([1.0]), "labels": np.array([1])}
    assert snr([both], iter([{**one, "z": np.array([0.9]), "labels": np.array([2])}])) == pytest.approx(20)


def test_a_layer_alone(bad_second: Calibrated) -> None:
    made = quantise(bad_second[0], "cpu", only="conv2")
    assert made.integer == ("conv2",)
    assert {row.reason for row in made.rows} == {"", "another one is asked for alone"}


def test_a_layer_alone_rounds_nothing_for_others(tmp_path: Path) -> None:
    graph = NET.replace("[pool] p = GlobalAveragePool (c)", """[beside] d = Conv <pads = [1, 1, 1, 1]> (r, w4)
    e = Add (c, d)
    [pool] p = GlobalAveragePool (e)""")  # fmt: skip
    path, samples = saved(tmp_path, net(graph, given={"w4": weights(3)["w2"]}))
    made = quantise(calibrate(path, samples), "cpu", only="conv2").model
    (beside,) = [node for node in made.graph if node.name == "beside"]
    assert beside.inputs[0].producer().op_type == "SimAMAffineRelu"


def test_planes_of_unequal_spread_keep_their_gates(tmp_path: Path) -> None:
    """SimAM between DQ and Q: weak planes keep their gate. Rounding inside SimAM gives them 1.00 for 0.67."""
    path, samples = unequal_planes(tmp_path)
    calibration = calibrate(path, samples)
    with opened(calibration.float32()) as exact, opened(quantise(calibration, "cpu").model) as made:
        assert snr([exact.run(feed) for feed in samples], map(made.run, samples)) >= 32
