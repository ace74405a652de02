from experiments.offline_runs import *  # noqa: F403 - until nobody imports this
