"""The other side: the same networks and LabelVAE as one would write them from disentanglement_lib's description.

Nothing here uses the project's models. Not made slow: tensors throughout, no loader processes, the project's own
vectorised sampler (a batch per step), the fastest way to sum the loss, no logger, no value read from the device but one
mean loss. Not made fast either: images are gathered, brought to [batch, channel, row, column] and divided by 255 view
by view, as torchvision's ToTensor does; each view has its own call of encoder and of decoder; tensors are contiguous;
Adam is torch's default; float32, not compiled, not torch's deterministic mode.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.weak_supervision.images import FactorImages
from experiments.weak_supervision.pairs import PairSampler

LEARNING_RATE = 1e-4  # of disentanglement_lib


class PlainLabelVAE(nn.Module):
    """VAE of image pairs of which all latents but the labelled one are averaged; calling it gives the loss.

    Args:
        num_latents: d.
        image_size: pixels a side: 64, or 32 with a stage fewer.
    """

    def __init__(self, num_latents: int, image_size: int) -> None:
        super().__init__()
        large = image_size == 64
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 2, stride=2),
            nn.ReLU(),
            *((nn.Conv2d(64, 64, 2, stride=2), nn.ReLU()) if large else ()),
            nn.Flatten(),
            nn.Linear(1024, 256),
            nn.ReLU(),
        )
        self.to_mean = nn.Linear(256, num_latents)
        self.to_log_variance = nn.Linear(256, num_latents)
        self.decoder = nn.Sequential(
            nn.Linear(num_latents, 256),
            nn.ReLU(),
            nn.Linear(256, 1024),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
            *((nn.ConvTranspose2d(64, 64, 4, stride=2, padding=1), nn.ReLU()) if large else ()),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 3, 4, stride=2, padding=1),
        )
        self.num_latents = num_latents

    def forward(self, views: tuple[Tensor, Tensor], label: Tensor, noise: Tensor) -> Tensor:
        """Negative evidence lower bound in nats per image.

        Args:
            views: two of [pairs, 3, height, width] in [0, 1].
            label: int64 [pairs], the latent that is kept.
            noise: standard normal [2, pairs, latents].
        """
        hidden = [self.encoder(x) for x in views]
        means = [self.to_mean(h) for h in hidden]
        log_variances = [self.to_log_variance(h) for h in hidden]
        average = (means[0] + means[1]) / 2
        log_average = ((log_variances[0].exp() + log_variances[1].exp()) / 2).log()
        kept = functional.one_hot(label, self.num_latents).bool()
        losses = []
        for x, mean, log_variance, epsilon in zip(views, means, log_variances, noise):
            mean = torch.where(kept, mean, average)
            log_variance = torch.where(kept, log_variance, log_average)
            z = mean + (0.5 * log_variance).exp() * epsilon
            reconstruction = functional.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum")
            divergence = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
            losses.append((reconstruction + divergence) / len(x))
        return (losses[0] + losses[1]) / 2


def to_float(images: Tensor) -> Tensor:
    """Contiguous [batch, 3, height, width] in [0, 1] of uint8 [batch, height, width, 3]."""
    return images.permute(0, 3, 1, 2).contiguous().float() / 255


def plain_loop(
    model: PlainLabelVAE,
    images: FactorImages,
    sampler: PairSampler,
    *,
    batch_size: int,
    steps: int,
    warm_up: int,
    device: torch.device,
    synchronize: Callable[[], None],
) -> float:
    """Trains and returns the seconds of the steps after the warm-up.

    Args:
        model: on the device.
        images: on the device or beside it.
        sampler: of the pairs, on the device.
        batch_size: pairs per step.
        steps: timed steps.
        warm_up: steps before them; the mean loss is read once in as many steps.
        device: for the training.
        synchronize: waits for the device.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    generator = torch.Generator(device).manual_seed(0)
    losses: list[Tensor] = []
    start = 0.0
    for step in range(warm_up + steps):
        if step == warm_up:
            synchronize()
            start = time.perf_counter()
        pairs = sampler.sample(batch_size, generator)
        index = pairs.index.to(images.images.device)
        views = to_float(images.gather(index[0]).to(device)), to_float(images.gather(index[1]).to(device))
        noise = torch.randn(2, batch_size, model.num_latents, device=device)
        loss = model(views, pairs.label, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
        if len(losses) == warm_up:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            if not math.isfinite(mean):
                raise FloatingPointError(f"the plain loop's loss is {mean} at step {step + 1}")
    synchronize()
    return time.perf_counter() - start
