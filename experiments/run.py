"""The one entry point.

    python -m experiments.run experiment=kolmogorov_smirnov/weights_merged_straight_through profile=quick seed=0
    python -m experiments.run -m experiment=urn/exact seed=0,1,2 launcher=local

A finished run is skipped, an interrupted one continues from its last checkpoint, ``force=true`` starts over.
"""

from experiments.entry import main

if __name__ == "__main__":
    main()
