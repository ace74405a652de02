"""The experiments of the paper, run from a checkout: ``python -m experiments.run experiment=NAME AXIS=VALUE``."""
