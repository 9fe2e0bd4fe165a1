"""The same networks and step in PyTorch: channels_last, bfloat16 and `torch.compile`.

Weights are random, which costs the same.
"""

import time
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_VGG54: tuple[tuple[int, ...], ...] = ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4)


class _Block(nn.Module):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.BatchNorm2d(filters),
            nn.PReLU(filters),
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.BatchNorm2d(filters),
        )

    def forward(self, x: Any) -> Any:
        return x + self.body(x)


class _Generator(nn.Module):
    def __init__(self, blocks: int, filters: int) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(3, filters, 9, padding=4), nn.PReLU(filters))
        self.body = nn.Sequential(
            *(_Block(filters) for _ in range(blocks)),
            nn.Conv2d(filters, filters, 3, padding=1),
            nn.BatchNorm2d(filters),
        )
        stages: list[nn.Module] = []
        for _ in range(2):
            stages += [nn.Conv2d(filters, 4 * filters, 3, padding=1), nn.PixelShuffle(2)]
            stages += [nn.PReLU(filters)]
        self.tail = nn.Sequential(*stages, nn.Conv2d(filters, 3, 9, padding=4))

    def forward(self, lr: Any) -> Any:
        x = self.head(lr)
        return torch.tanh(self.tail(x + self.body(x)).float())


def _discriminator(hr_crop: int, filters: int, dense: int) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, filters, 3, padding=1), nn.LeakyReLU(0.2)]
    width = filters
    for number in range(1, 8):
        wider, stride = filters * 2 ** (number // 2), 1 + number % 2
        layers += [nn.Conv2d(width, wider, 3, stride, 1), nn.BatchNorm2d(wider), nn.LeakyReLU(0.2)]
        width = wider
    layers += [nn.Flatten(), nn.Linear(width * (hr_crop // 16) ** 2, dense), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(dense, 1))


def _vgg54() -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for block in _VGG54:
        for filters in block:
            layers += [nn.Conv2d(channels, filters, 3, padding=1), nn.ReLU()]
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def seconds_per_step(
    *, gan: bool, batch: int, hr_crop: int, sizes: dict[str, Any], steps: int, device: str
) -> dict[str, float]:
    """Trains on one batch and measures.

    Args:
        gan: With discriminator and VGG54; else the MSE alone.
        batch: Patches of a step.
        hr_crop: HR crop side in pixels.
        sizes: `generator` (blocks, filters) and `discriminator` (filters, dense).
        steps: How many are timed.
        device: `cuda` or `cpu`.

    Returns:
        `milliseconds` of a step, `seconds_to_compile`, `peak_bytes` of the device (0 on the CPU).
    """
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    layout = {"memory_format": torch.channels_last}

    def place(network: nn.Module) -> nn.Module:
        return network.to(device).to(**layout)

    generator = place(_Generator(**sizes["generator"]))
    adams = [torch.optim.Adam(generator.parameters(), 1e-4, fused=True)]
    networks = [generator]
    if gan:
        networks += [place(_discriminator(hr_crop, **sizes["discriminator"])), place(_vgg54())]
        adams.append(torch.optim.Adam(networks[1].parameters(), 1e-4, fused=True))

    @torch.compile(dynamic=False)  # type: ignore[untyped-decorator]
    def generator_loss(lr: Any, hr: Any) -> tuple[Any, Any]:
        with torch.autocast(device, torch.bfloat16):
            sr = networks[0](lr)
            if not gan:
                return functional.mse_loss(sr, hr), sr
            _, discriminate, features = networks
            content = functional.mse_loss(features(sr).float(), features(hr).float())
            adversarial = functional.softplus(-discriminate(sr).float()).mean()
        return content + 1e-3 * adversarial, sr

    @torch.compile(dynamic=False)  # type: ignore[untyped-decorator]
    def discriminator_loss(sr: Any, hr: Any) -> Any:
        with torch.autocast(device, torch.bfloat16):
            hr_logits, sr_logits = networks[1](hr).float(), networks[1](sr).float()
        return (functional.softplus(-hr_logits) + functional.softplus(sr_logits)).mean()

    draw = torch.Generator().manual_seed(0)
    lr_side = hr_crop // 4
    lr = torch.rand(batch, 3, lr_side, lr_side, generator=draw).to(device).to(**layout)
    hr = (2 * torch.rand(batch, 3, hr_crop, hr_crop, generator=draw) - 1).to(device).to(**layout)

    def step() -> None:
        if gan:
            networks[1].requires_grad_(False)  # the adversarial loss is the generator's
        loss, sr = generator_loss(lr, hr)
        adams[0].zero_grad(set_to_none=True)
        loss.backward()
        if gan:
            networks[1].requires_grad_(True)
            adams[1].zero_grad(set_to_none=True)
            discriminator_loss(sr.detach(), hr).backward()
        for adam in adams:
            adam.step()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    step()
    wait()
    compiled = time.perf_counter() - began
    for _ in range(5):
        step()
    wait()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return {
        "milliseconds": 1000 * (time.perf_counter() - began) / steps,
        "seconds_to_compile": compiled,
        "peak_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else 0,
    }
