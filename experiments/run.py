"""The one entry point.

    python -m experiments.run experiment=kolmogorov_smirnov/weights_merged_straight_through profile=quick seed=0
    python -m experiments.run -m experiment=urn/exact seed=0,1,2 launcher=local

A finished run is skipped, an interrupted one continues from its last checkpoint, ``force=true`` starts over.
"""

import sys

from experiments.common.command_line import check_command_line, check_results_folder
from experiments.common.errors import ExperimentError
from experiments.entry import main

if __name__ == "__main__":
    try:
        check_command_line(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):
            check_results_folder(sys.argv[1:])
    except ExperimentError as error:
        sys.exit(f"error: {error}")
    main()
