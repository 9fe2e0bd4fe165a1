"""Facts that are computed, and cards of runs of other kinds."""

import numpy as np
import pytest
from ruamel.yaml import YAML

from srgan.config_file import parse_config
from srgan.export.card import front_matter, model_card
from srgan.export.check import Difference
from srgan.export.facts import DataSet, Facts, largest_map, radius
from srgan.export.graph import operations
from srgan.networks import generator

CONFIG = "{generator: {blocks: 1}, phases: {only: {epochs: 2, losses: {l1: 1, vgg54: 0.5}}}}"

FACTS = Facts(
    name="epoch-0002",
    sha256="ab" * 32,
    scale=2,
    parameters=1_234_567,
    gflops_per_megapixel=277.0,
    megabytes_per_megapixel=256.0,
    radius=21,
    is_gan=False,
    config=parse_config(CONFIG, "test").model_dump(mode="json"),
    data_set=DataSet("div2k", "for research only", "https://a.org/d", 800, "matlab", "cd" * 32),
    scores=(),
    best="",
)
DIFFERENCE = Difference(1, "chelsea at [0, 0, 0]", 1e-5, 4000, 9)


@pytest.mark.parametrize(
    ("scale", "options"),
    [(2, {}), (4, {}), (3, {"direct_upsampling": True}), (8, {"global_skip": True})],
)
def test_the_radius_is_as_far_as_a_pixel_reaches(scale, options):
    """In a network of positive weights every pixel that depends on another one changes with it."""
    network = generator(scale=scale, blocks=1, filters=4, **options)
    for weight in network.weights:
        value = np.abs(weight.numpy()) * 0.1 if "kernel" in weight.path else weight.numpy()
        weight.assign(value)
    side = 61
    black, dot = np.zeros((2, 1, side, side, 3), np.float32)
    dot[0, side // 2, side // 2] = 1e4
    apart = network.layers[-1].input  # before the tanh, which is flat
    change = np.asarray(_before(network, apart, dot)) - np.asarray(_before(network, apart, black))
    rows = np.nonzero(np.abs(change[0]).sum(axis=(1, 2)))[0]
    reach = max(side // 2 - rows[0] // scale, rows[-1] // scale - side // 2)
    assert radius(operations(network)) == reach


def _before(network, tensors, image):
    import keras

    last = tensors[-1] if isinstance(tensors, list) else tensors
    return keras.Model(network.input, last)(image)


def test_the_largest_map_is_counted():
    # The paper's: 64 maps of SR's size, before and after the last sub-pixel stage.
    assert largest_map(operations(generator(blocks=1, filters=64))) == 64 * 16
    # ESPCN's end: 64 maps of LR's size are more than the 48 that become the image.
    direct = generator(blocks=1, filters=64, direct_upsampling=True)
    assert largest_map(operations(direct)) == 64


def test_the_card_of_a_run_without_discriminator_and_evaluation():
    text = model_card(FACTS, "saved_model", DIFFERENCE)
    fields = YAML(typ="safe").load(text.split("---\n")[1])
    assert fields["license"] == "other"
    assert fields["license_name"] == "trained-on-div2k"
    assert fields["license_link"] == "https://a.org/d"
    assert "library_name" not in fields
    assert "model-index" not in fields
    assert "Phase `only`: l1 1, vgg54 0.5." in text
    assert "Licence of the data: for research only." in text
    assert "at most 1 level apart, on 0.0010% of 4,000 values of 9 pictures" in text
    assert "Not evaluated: " in text
    assert "discriminator" not in text
    assert "tiles that overlap by 42 LR pixels, and drop 21 at each cut" in text


def test_the_card_of_a_run_whose_data_set_is_gone():
    facts = FACTS._replace(data_set=DataSet("", "", "", None, None, "cd" * 32))
    text = model_card(facts, "keras", DIFFERENCE)
    assert front_matter(facts, "keras")["license"] == "unknown"
    assert "Data: not known: the data set is gone or another one now" in text
    assert "made by a kernel that is not known" in text
