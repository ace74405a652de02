"""The claims of the paper and of this project: rules.yaml says how each is judged, one module per room measures."""
