from experiments.training import *  # noqa: F403
