"""Weak supervision on mpi3d (Section 5.2 of the paper): which latents do two images share?"""
