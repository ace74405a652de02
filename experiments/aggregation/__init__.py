"""From finished runs to one tidy table per experiment and kind."""
