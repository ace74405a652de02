"""Speed, memory and precision of the sampler beside the original authors' code, BiasedUrn and plain NumPy."""
