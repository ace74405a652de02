from experiments.store import *  # noqa: F403 - until nobody imports this
