"""Clustering of MNIST with three priors over the assignments (Section 5.3, C.3; Table 2, Figure 3)."""
