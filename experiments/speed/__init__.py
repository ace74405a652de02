"""How fast: the sampler beside its peers, and the steps of the VAEs beside each other."""
