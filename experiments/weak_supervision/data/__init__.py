"""Images by their generative factors: mpi3d, its rendered stand-in mpi3d_sim, and pairs of them."""
