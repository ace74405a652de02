"""What this machine and this environment can run, and what is missing. Nothing heavy is imported, torch neither."""
