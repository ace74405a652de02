"""What every experiment shares: results store, tracking, reproducibility, run context."""
