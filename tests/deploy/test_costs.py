"""The runbook's example in dollars and its reasons: recomputed from its own inputs."""

import json
import re

import pytest

from srgan import networks
from tests.conftest import ROOT

RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
EXAMPLE, REASONS = RUNBOOK.split("### One example in dollars")[1].split("### Four GPUs in a node")
RESULTS = ROOT / "benchmarks" / "results"


def number(text: str) -> float:
    return float(re.search(r"[\d,]+(?:[.]\d+)?", text)[0].replace(",", ""))


def rows(text: str, columns: int) -> list[list[str]]:
    """The rows of a page's tables with so many columns, without heads."""
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line[:2] == "| "]
    return [row for row in cells if len(row) == columns and re.search(r"\d", row[1])]


def test_inputs_that_are_called_measured_are():
    inputs = {row[0]: row for row in rows(EXAMPLE, 3)}
    measured = [row for row in inputs.values() if row[2].startswith("measured")]
    steps = json.loads((RESULTS / "gpu.json").read_text())["steps"]
    data = json.loads((RESULTS / "prepare.json").read_text())["arrow_div2k"]
    size = round(data["train_gigabytes"] + data["valid_gigabytes"], 1)
    expected = [steps[f"{phase}_float32_16"]["milliseconds"] for phase in ("pretrain", "gan")]
    assert [number(row[1]) for row in measured] == [*expected, size]
    assert number(inputs["steps of each phase"][1]) == 100 * 2037
    slower = next(row for name, row in inputs.items() if name.startswith("A10G"))
    fast, slow = map(int, re.search(r"(\d+) over (\d+) TFLOP", slower[2]).groups())
    assert slower[1] == f"{fast / slow:.1f}"
    hours = 100 * 2037 * sum(expected) / 1000 * float(slower[1]) / 3600
    assert inputs["GPU hours"][1] == f"{hours:.1f}"


def test_the_dollars_add_up():
    lines = rows(EXAMPLE, 4)
    assert len(lines) == 5
    for _, quantity, price, dollars in lines:
        assert dollars == f"{number(quantity) * float(price):.2f}"
    total = re.search(r"\*\*in all\*\*.*\*\*([\d.]+)\*\*", EXAMPLE)[1]
    assert total == f"{sum(float(line[3]) for line in lines):.2f}"
    hours = {line[0].split(",")[0]: number(line[1]) for line in lines}
    hours_on, disks = (hours[name] for name in ("g5.2xlarge", "disks"))
    training = number(next(row for row in rows(EXAMPLE, 3) if row[0] == "GPU hours")[1])
    assert hours_on == round(training + 10 / 60)
    nodes = hours_on + hours["m6i.2xlarge"] + hours["c7i.4xlarge"]
    assert f"{nodes:.0f} hours of nodes" in EXAMPLE
    assert disks == pytest.approx(150 * nodes / 730, abs=0.005)
    assert "26 November 2026" in EXAMPLE


def test_the_reasons_for_four_gpus_in_a_node_and_for_one_zone():
    weights = [
        sum(weight.value.shape.num_elements() for weight in network.trainable_weights)
        for network in (networks.generator(), networks.discriminator())
    ]
    assert "{:,} and {:,}\nweights of 4 bytes".format(*weights) in REASONS
    sent = 4 * sum(weights) * 2 * 3 / 4
    assert f"{sent / 1e6:.0f} MB" in REASONS
    price = number(next(row for row in rows(EXAMPLE, 4) if row[0] == "g5.2xlarge")[2])
    assert f"4 x ${price} = ${4 * price:.2f} | $5.672, {5.672 / 4 / price - 1:.0%}" in (
        REASONS.replace(" %", "%")
    )
    times = [sent / speed for speed in (10e9 / 8, 5e9 / 8, 32e9)]
    assert "{:.2f} s, {:.2f} s for long | {:.3f} s".format(*times) in REASONS
    assert f"{10.24e-3 * 14.1 / 4:.3f} s | {10.24e-3 * 14.1 / 4:.3f} s" in REASONS
    crossings = 2  # a ring that leaves a zone comes back
    traffic = 100 * 2037 * crossings * sent / 1e9
    assert f"{traffic / 1000:.1f} TB across it, for ${2 * 0.01 * traffic:,.0f}" in REASONS
