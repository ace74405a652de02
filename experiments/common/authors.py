from experiments.authors import *  # noqa: F403 - until nobody imports this
