from experiments.environment import *  # noqa: F403
from experiments.training import derive_seed as derive_seed
