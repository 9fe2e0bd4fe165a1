"""FLOPs of the paper's networks, and what share of a GPU's peak they are."""

import keras
import pytest

from srgan.flops import forward_flops, peak_flops, step_flops, upscaling_gflops
from srgan.networks import discriminator, generator
from srgan.vgg import extractor_flops


def convolution(side: int, kernel: int, inputs: int, outputs: int) -> int:
    return 2 * side**2 * kernel**2 * inputs * outputs


def test_a_patch_of_96_pixels_with_the_papers_networks():
    """By hand, layer by layer."""
    blocks = 33 * convolution(24, 3, 64, 64)
    stages = convolution(24, 3, 64, 256) + convolution(48, 3, 64, 256)
    expected = convolution(24, 9, 3, 64) + blocks + stages + convolution(96, 9, 64, 3)
    of_generator = forward_flops(generator(), 24, 24)
    assert of_generator == expected
    stage = convolution(24, 3, 64, 9 * 64)
    of_x3 = convolution(24, 9, 3, 64) + blocks + stage + convolution(72, 9, 64, 3)
    assert forward_flops(generator(scale=3), 24, 24) == of_x3
    direct = generator(direct_upsampling=True, global_skip=True)
    of_direct = convolution(24, 9, 3, 64) + blocks + convolution(24, 3, 64, 3 * 16)
    assert forward_flops(direct, 24, 24) == of_direct
    widths = [(96, 3, 64), (48, 64, 64), (48, 64, 128), (24, 128, 128), (24, 128, 256)]
    widths += [(12, 256, 256), (12, 256, 512), (6, 512, 512)]
    expected = sum(convolution(side, 3, *channels) for side, *channels in widths)
    expected += 2 * (6 * 6 * 512 * 1024 + 1024)
    of_discriminator = forward_flops(discriminator(), 96, 96)
    assert of_discriminator == expected
    expected = (
        convolution(96, 3, 3, 64) + convolution(48, 4, 64, 128) + convolution(24, 4, 128, 256)
    )
    expected += convolution(24, 3, 256, 512) + convolution(24, 3, 512, 1)
    patches = discriminator(patch=True, spectral_norm=True, batch_norm=False)
    assert forward_flops(patches, 96, 96) == expected
    assert step_flops(generator=of_generator) / 1e9 == pytest.approx(7.65, abs=0.02)
    assert step_flops(generator=0, discriminator=of_discriminator) / 1e9 == pytest.approx(
        12.3, abs=0.1
    )
    of_vgg54 = extractor_flops("vgg54", 96)
    assert step_flops(generator=0, extractors=[of_vgg54]) / 1e9 == pytest.approx(21.5, abs=0.1)


def test_a_megapixel_of_sr_costs_the_same_at_every_size():
    for scale, network in ((4, generator()), (3, generator(scale=3, blocks=1, filters=4))):
        flops = forward_flops(network, 24, 18)
        assert upscaling_gflops(network, scale) == pytest.approx(
            flops / (24 * 18 * scale**2) * 1e6 / 1e9
        )
    assert upscaling_gflops(generator(), 4) == pytest.approx(277, abs=1)


def test_vggs_flops_are_those_of_its_layers():
    vgg19 = keras.applications.VGG19(include_top=False, weights=None, input_shape=(None, None, 3))
    for name, layer in (("vgg22", "block2_conv2"), ("vgg54", "block5_conv4")):
        network = keras.Model(vgg19.input, vgg19.get_layer(layer).output)
        assert extractor_flops(name, 48) == forward_flops(network, 48, 48)


@pytest.mark.parametrize(
    ("device", "precision", "tf32", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "mixed_bfloat16", True, 989.4),
        ("NVIDIA H100 PCIe", "mixed_bfloat16", True, 756.0),
        ("NVIDIA H200", "float32", True, 494.7),
        ("NVIDIA A100-SXM4-40GB", "float32", False, 19.5),
        ("NVIDIA A10G", "float32", True, 35.0),
    ],
)
def test_the_peak_is_the_data_sheets(device, precision, tf32, teraflops):
    assert peak_flops(device, precision, tf32=tf32) == teraflops * 1e12


def test_an_unknown_device_has_no_peak():
    for device in ("cpu", "NVIDIA L40", "NVIDIA H200 NVL", "NVIDIA A100-SXM4-40GB MIG 1g.5gb"):
        assert peak_flops(device, "float32", tf32=True) is None
    assert peak_flops("NVIDIA H200", "float64", tf32=True) is None
