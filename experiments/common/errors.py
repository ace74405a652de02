from experiments.settings import ExperimentError as ExperimentError
