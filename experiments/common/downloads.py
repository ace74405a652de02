from experiments.downloads import *  # noqa: F403 - until nobody imports this
