"""The pretrained autoencoder that the authors of VaDE published, read from Keras' HDF5 layout.

The file is ``pretrain_weights/ae_mnist_weights.h5`` of github.com/slim1017/VaDE, written by Keras 1.0.8. It was not at
hand where this reader was written: the reader follows Keras' layout, is tested with files that the tests write in that
layout, and checks the shape of everything it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from experiments.downloads import Download, download
from experiments.settings import ExperimentError

ORIGINAL = Download(
    name="ae_mnist_weights.h5",
    urls=("https://raw.githubusercontent.com/slim1017/VaDE/master/pretrain_weights/ae_mnist_weights.h5",),
    checksum="git-blob:a67cc69c8e60922e31bcf3932ba7b54436eeff39",
    size=13_300_000,  # the parameters in float32
)


def original_weights(directory: Path) -> Path:
    """Returns the path of VaDE's published weights, ``vade/ae_mnist_weights.h5``; downloads them if they are not there.

    Args:
        directory: the data folder.

    Raises:
        ExperimentError: the file is not the published one, or can't be downloaded.
    """
    folder = directory / "vade"
    alternative = "leave the original weights and take this project's own pretraining"
    download([ORIGINAL], folder, title="VaDE's pretrained weights", alternative=alternative)
    return folder / ORIGINAL.name


def load_autoencoder_weights(path: Path, widths: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Reads the dense layers of an autoencoder in torch's layout, encoder first, then decoder.

    Args:
        path: HDF5 file of Keras 1 or 2, of the weights or of the whole model; layers without weights are passed over.
        widths: widths of the encoder's layers, from the input to the embedding; the decoder mirrors them.

    Returns:
        2 * (len(widths) - 1) pairs of weight [out, in] and bias [out], float32.

    Raises:
        ExperimentError: the file is missing, no HDF5 file, not in Keras' layout, or has other layers or shapes.
    """
    if not path.is_file():
        raise ExperimentError(f"the weights file {path} does not exist")
    expected = [*pairwise(widths), *pairwise(reversed(widths))]
    try:
        with h5py.File(path, "r") as file:
            layers = _layers(file)
    except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:  # what h5py raises for damaged files
        raise ExperimentError(f"{path} can't be read as an HDF5 file of Keras 1 or 2 ({error})") from None
    if len(layers) != len(expected):
        names = ", ".join(name for name, _ in layers) or "none"
        raise ExperimentError(f"{path} has {len(layers)} layers with weights ({names}), expected {len(expected)}")
    pairs = []
    for (name, arrays), (inputs, outputs) in zip(layers, expected, strict=True):
        found, wanted = [array.shape for array in arrays], [(inputs, outputs), (outputs,)]
        if found != wanted:
            raise ExperimentError(f"{path}, layer {name}: found shapes {found}, expected {wanted}")
        if not all(np.isfinite(array).all() for array in arrays):
            raise ExperimentError(f"{path}, layer {name}: not all weights are finite")
        kernel, bias = (torch.from_numpy(array) for array in arrays)
        pairs.append((kernel.T.contiguous(), bias))
    return pairs


def _layers(file: h5py.File) -> list[tuple[str, list[NDArray[np.float32]]]]:
    """Name and arrays of every layer with weights, in the order of the model."""
    root = file.get("model_weights", file)  # a file of the whole model holds them one group further down
    layers = []
    for name in _names(root.attrs["layer_names"]):
        weights = [root[name][weight] for weight in _names(root[name].attrs["weight_names"])]
        if weights:
            layers.append((name, [np.array(weight[()], dtype=np.float32) for weight in weights]))
    return layers


def _names(values: Sequence[bytes | str]) -> list[str]:
    """Bytes from Keras 1 and 2, text from some of its relatives."""
    return [name.decode() if isinstance(name, bytes) else str(name) for name in values]
