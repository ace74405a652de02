"""The pretrained autoencoder: what Keras wrote is what torch computes, and anything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from experiments.clustering.pretraining import keras_weights
from experiments.clustering.pretraining.keras_weights import load_autoencoder_weights, original_weights
from experiments.settings import ExperimentError

WIDTHS = (7, 5, 5, 6, 2)
SHAPES = [(7, 5), (5, 5), (5, 6), (6, 2), (2, 6), (6, 5), (5, 5), (5, 7)]
NAMES = [f"{part}{number}" for part in ("encoder", "decoder") for number in (1, 2, 3, 4)]
Layers = list[tuple[str, NDArray[np.float32], NDArray[np.float32]]]


@pytest.fixture
def layers() -> Layers:
    random = np.random.default_rng(0)
    return [
        (name, random.normal(size=shape).astype(np.float32), random.normal(size=shape[1]).astype(np.float32))
        for name, shape in zip(NAMES, SHAPES, strict=True)
    ]


def write_keras_1(path: Path, layers: Layers) -> None:
    """The layout of ``save_weights`` in Keras 1.0.8: names as byte strings, arrays in the layer's group."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name, _, _ in layers]
        for name, kernel, bias in layers:
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_W".encode(), f"{name}_b".encode()]
            group[f"{name}_W"], group[f"{name}_b"] = kernel, bias


def write_keras_2(path: Path, layers: Layers) -> None:
    """The layout of ``save`` in Keras 2: below model_weights, nested paths, layers without weights in between."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"2.15.0"
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = [b"input", *(name.encode() for name, _, _ in layers)]
        root.create_group("input").attrs["weight_names"] = np.empty(0)  # as h5py stores an empty list
        for name, kernel, bias in layers:
            group = root.create_group(name)
            group.attrs["weight_names"] = [f"{name}/kernel:0".encode(), f"{name}/bias:0".encode()]
            group[f"{name}/kernel:0"], group[f"{name}/bias:0"] = kernel, bias


WRITERS = [write_keras_1, write_keras_2]


@pytest.mark.parametrize("write", WRITERS)
def test_torch_computes_what_keras_computed(tmp_path: Path, layers: Layers, write: Callable[..., None]) -> None:
    write(tmp_path / "weights.h5", layers)
    pairs = load_autoencoder_weights(tmp_path / "weights.h5", WIDTHS)
    assert len(pairs) == 2 * (len(WIDTHS) - 1)
    theirs = np.random.default_rng(1).normal(size=(3, WIDTHS[0])).astype(np.float32)
    ours = torch.from_numpy(theirs)
    for (_, kernel, bias), (weight, shift) in zip(layers, pairs, strict=True):
        assert weight.dtype == shift.dtype == torch.float32 and weight.is_contiguous()
        theirs, ours = np.tanh(theirs @ kernel + bias), torch.tanh(torch.nn.functional.linear(ours, weight, shift))
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("write", WRITERS)
def test_another_shape_names_file_layer_and_both_shapes(
    tmp_path: Path, layers: Layers, write: Callable[..., None]
) -> None:
    name, kernel, bias = layers[3]
    layers[3] = (name, kernel.T, bias)
    write(tmp_path / "weights.h5", layers)
    message = rf"h5, layer {name}: found shapes \[\(2, 6\), \(2,\)\], expected \[\(6, 2\), \(2,\)\]"
    with pytest.raises(ExperimentError, match=message):
        load_autoencoder_weights(tmp_path / "weights.h5", WIDTHS)


def absent_array(file: h5py.File) -> None:
    del file["encoder2"]["encoder2_b"]


def group_for_array(file: h5py.File) -> None:
    absent_array(file)
    file["encoder2"].create_group("encoder2_b")


def no_bias(file: h5py.File) -> None:
    file["encoder2"].attrs["weight_names"] = [b"encoder2_W"]


def no_layer_names(file: h5py.File) -> None:
    del file.attrs["layer_names"]


def not_finite(file: h5py.File) -> None:
    file["encoder2"]["encoder2_W"][0, 0] = np.nan


def a_layer_less(file: h5py.File) -> None:
    file.attrs["layer_names"] = [name.encode() for name in NAMES[:-1]]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (absent_array, r"weights.h5 can't be read as an HDF5 file of Keras 1 or 2 \(.*encoder2_b"),
        (group_for_array, r"weights.h5 can't be read as an HDF5 file of Keras 1 or 2 \("),
        (no_bias, r"layer encoder2: found shapes \[\(5, 5\)\], expected \[\(5, 5\), \(5,\)\]"),
        (no_layer_names, r"weights.h5 can't be read as an HDF5 file of Keras 1 or 2 \(.*layer_names"),
        (not_finite, r"layer encoder2: not all weights are finite"),
        (a_layer_less, r"has 7 layers with weights \(encoder1, .*, decoder3\), expected 8"),
    ],
)
def test_a_damaged_file_is_refused(
    tmp_path: Path, layers: Layers, damage: Callable[[h5py.File], None], message: str
) -> None:
    path = tmp_path / "weights.h5"
    write_keras_1(path, layers)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(ExperimentError, match=message):
        load_autoencoder_weights(path, WIDTHS)


def test_no_hdf5_a_truncated_one_and_none_at_all_are_refused(tmp_path: Path, layers: Layers) -> None:
    path = tmp_path / "weights.h5"
    with pytest.raises(ExperimentError, match=r"the weights file .*weights.h5 does not exist"):
        load_autoencoder_weights(path, WIDTHS)
    write_keras_1(path, layers)
    for content in (b"<html>", path.read_bytes()[:-500]):
        path.write_bytes(content)
        with pytest.raises(ExperimentError, match=r"weights.h5 can't be read as an HDF5 file"):
            load_autoencoder_weights(path, WIDTHS)


def test_a_file_put_there_by_hand_is_taken_only_if_it_is_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vade" / "ae_mnist_weights.h5"
    path.parent.mkdir()
    path.write_bytes(b"hello\n")
    with pytest.raises(ExperimentError, match=r"ae_mnist_weights.h5 is not the published file .*a67cc69c8e60922e31bc"):
        original_weights(tmp_path)
    known = "git-blob:ce013625030ba8dba906f756967f9e9ca394464a"  # git's id of "hello\n"
    monkeypatch.setattr(keras_weights, "ORIGINAL", keras_weights.ORIGINAL._replace(checksum=known))
    assert original_weights(tmp_path) == path


def test_without_a_network_the_message_names_the_own_pretraining(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = keras_weights.ORIGINAL._replace(urls=("http://127.0.0.1:9/weights.h5",))  # the discard port
    monkeypatch.setattr(keras_weights, "ORIGINAL", nowhere)
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(ExperimentError, match=r"VaDE's pretrained weights can't be downloaded: .* own pretraining$"):
        original_weights(tmp_path)
