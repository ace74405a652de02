from experiments.training import RateEstimate as RateEstimate
