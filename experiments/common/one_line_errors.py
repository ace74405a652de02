from experiments.settings import one_line_errors as one_line_errors
