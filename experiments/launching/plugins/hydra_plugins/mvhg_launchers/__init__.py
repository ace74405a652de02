"""The launchers of ``launcher=...``. Hydra looks for plug-ins in packages of this name alone."""
