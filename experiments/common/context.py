from experiments.context import *  # noqa: F403 - until nobody imports this
