from experiments.tracking import *  # noqa: F403 - until nobody imports this
