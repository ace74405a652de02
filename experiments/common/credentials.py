from experiments.credentials import *  # noqa: F403 - until nobody imports this
