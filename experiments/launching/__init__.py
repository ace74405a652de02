"""Many cells (row and seed) at once: what is left to run, who runs it, how far it is and what failed."""
