"""What can run here: each target with its needs, and the command that adds what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from experiments.doctor.surroundings import Surroundings

# Need -> whether it is there, and what adds it.
NEEDS: dict[str, tuple[Callable[[Surroundings], bool], str]] = {
    "torch": (lambda found: found.complete("library"), "make install"),
    "experiments": (lambda found: found.complete("experiments"), "make install, or pip install '.[experiments]'"),
    "tests": (lambda found: found.complete("dev"), "make install, or pip install '.[dev]'"),
    "renderer": (lambda found: found.complete("renderer"), "make install, or pip install '.[renderer]'"),
    "disentanglement": (lambda found: found.complete("disentanglement"), "make install-disentanglement (2 GB)"),
    "ray": (lambda found: found.complete("ray"), "make install-ray, or pip install '.[ray]'"),
    "mnist": (
        lambda found: found.data["mnist"] is not None,
        "fetched when asked for (11.6 MB), or put the four files into data/mnist (data/README.md)",
    ),
    "mpi3d_toy": (
        lambda found: found.data["mpi3d_toy"] is not None,
        "fetched when asked for (12.7 GB), or python scripts/prepare_mpi3d.py fetch mpi3d_toy (data/README.md)",
    ),
    "1 GiB of disk": (lambda found: found.free_gib >= 1, "free space, or set MVHG_RESULTS_DIR"),
    "30 GiB of disk": (lambda found: found.free_gib >= 30, "free space, or set MVHG_DATA_DIR"),
    "GPU": (lambda found: bool(found.gpus), "a machine with an NVIDIA GPU, and make install TORCH=... of its CUDA"),
    "wandb key": (lambda found: found.logged_in, "wandb login"),
    "BiasedUrn": (lambda found: found.biased_urn is not None, "R, then install.packages('BiasedUrn') in it"),
}
DOWNLOADED = ("mnist", "mpi3d_toy")  # by the experiment itself
_RUN = ("torch", "experiments", "1 GiB of disk")
TARGETS: dict[str, tuple[str, ...]] = {
    "the library (import mvhg)": ("torch",),
    "make reproduce (Tables 1, 2, Figures 1-4, 7-10)": _RUN,
    "make reproduce-fig1 -fig4 -fig9 -fig10": _RUN,
    "make reproduce-fig7 -fig8": _RUN,
    "make reproduce-table1 -fig2 -fig13": _RUN,
    "make reproduce-table2 -fig3": _RUN,
    "make reproduce-fig11": (*_RUN, "disentanglement"),
    "make reproduce-table2 PROFILE=medium": (*_RUN, "mnist"),
    "make reproduce-table1 PROFILE=paper": (*_RUN, "mpi3d_toy", "30 GiB of disk"),
    "scripts/prepare_mpi3d.py (renders images)": (*_RUN, "renderer"),
    "ARGS=trainer=gpu": (*_RUN, "GPU"),
    "launcher=ray": (*_RUN, "ray"),
    "make dashboard": ("experiments",),
    "make wandb-sync": ("experiments", "wandb key"),
    "make benchmark beside BiasedUrn": (*_RUN, "BiasedUrn"),
    "make test": ("torch", "experiments", "tests"),
}


@dataclass(frozen=True)
class Ability:
    """Whether a target can run.

    Attributes:
        target: the command.
        missing: need -> what adds it; empty if it can run.
    """

    target: str
    missing: dict[str, str]

    @property
    def state(self) -> str:
        """``yes``, ``no``, or ``after a download`` where nothing else is missing."""
        if not self.missing:
            return "yes"
        return "after a download" if set(self.missing) <= set(DOWNLOADED) else "no"


def abilities(found: Surroundings) -> list[Ability]:
    """Every target, in order."""
    there = {need: check(found) for need, (check, _) in NEEDS.items()}
    return [
        Ability(target, {need: NEEDS[need][1] for need in needs if not there[need]})
        for target, needs in TARGETS.items()
    ]
