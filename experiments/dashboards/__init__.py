"""W&B dashboards as code: a workspace per experiment, declared in a file of its own."""
