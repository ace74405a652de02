"""Prepares the images of the weak-supervision experiment. An experiment does the same by itself when it needs them.

fetch          downloads mpi3d_toy, mpi3d_realistic or mpi3d_real (12.7 GB each) unless the file is there, checks it
               whole, and unpacks it once where that is needed
render         renders mpi3d_sim at other positions than the 8 x 8 that come with the code (40: all 1,036,800 images,
               12.7 GB); needs the extra `renderer`
package        renders the planes of the default grid into the file that is shipped (for a change of the scene)
contact-sheet  draws <output>/<source>_contact_sheet.png and .pdf
"""

from __future__ import annotations

import argparse
import logging
import os
import sys

from experiments.figures import save
from experiments.settings import one_line_errors, typed_path
from experiments.weak_supervision.data import mpi3d, mpi3d_sim
from experiments.weak_supervision.data.contact_sheet import contact_sheet
from experiments.weak_supervision.data.images import FactorImages
from experiments.weak_supervision.data.renderer import Renderer
from experiments.weak_supervision.data.sources import SOURCES


def load(source: str, options: argparse.Namespace, levels: int | None = None) -> FactorImages:
    """Brings the images into the data folder."""
    return SOURCES[source].load(options.image_size, levels, options.positions, options.data)


def package() -> None:
    """Renders the planes that are shipped and says what to change in the code when they are new."""
    with Renderer() as renderer:
        rendered = mpi3d_sim.render_default(renderer)
    if mpi3d_sim.digest(rendered) == mpi3d_sim.SHA256 and mpi3d_sim.PATH.exists():
        print(f"{mpi3d_sim.PATH} is up to date (SHA-256 of its planes {mpi3d_sim.SHA256})")
        return
    mpi3d_sim.save(rendered, mpi3d_sim.PATH)
    print(f"wrote {mpi3d_sim.PATH} ({mpi3d_sim.PATH.stat().st_size:,} bytes)")
    print(f'set SHA256 in {mpi3d_sim.__file__} to "{mpi3d_sim.digest(rendered)}"')


def draw(options: argparse.Namespace) -> None:
    """Draws the contact sheet of a source."""
    images = load(options.source, options, options.levels)
    for path in save(contact_sheet(images), options.output, f"{options.source}_contact_sheet"):
        print(f"wrote {path}")


def _describe(images: FactorImages) -> str:
    side = images.images.shape[1]
    return f"{images.grid.num_images:,} images of {side}x{side} pixels ({' x '.join(map(str, images.grid.sizes))})"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("MVHG_DATA_DIR") or "data"
    parser.add_argument("--data", type=typed_path, default=default, help="data folder (%(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    fetch = commands.add_parser("fetch", help="download, check and convert published images")
    fetch.add_argument("source", choices=mpi3d.SOURCES, nargs="+")
    kept = SOURCES["mpi3d_sim"].kept_positions
    fetch.set_defaults(positions=kept[-1], image_size=64)
    render = commands.add_parser("render", help="render mpi3d_sim at other positions")
    render.add_argument("--positions", type=int, choices=kept, default=kept[-1], help="of each axis (%(default)s)")
    commands.add_parser("package", help="make the file of planes that is shipped")
    sheet = commands.add_parser("contact-sheet", help="draw a contact sheet")
    sheet.add_argument("--source", choices=SOURCES, default="mpi3d_sim", help="%(default)s")
    sheet.add_argument("--levels", type=int, choices=(4, 6), help="colours and shapes (default: all that there are)")
    usual = mpi3d_sim.DEFAULT_POSITIONS
    sheet.add_argument("--positions", type=int, choices=kept, default=usual, help="of each axis (%(default)s)")
    sheet.add_argument("--output", type=typed_path, default="results/local/figures", help="folder (%(default)s)")
    render.set_defaults(image_size=64)
    sheet.add_argument("--image-size", type=int, choices=(64, 32), default=64, help="pixels (%(default)s)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    with one_line_errors(options.data):
        if options.command == "package":
            package()
        elif options.command == "contact-sheet":
            draw(options)
        else:
            for source in options.source if options.command == "fetch" else ["mpi3d_sim"]:
                print(f"{source}: {_describe(load(source, options))} are ready")


if __name__ == "__main__":
    main()
