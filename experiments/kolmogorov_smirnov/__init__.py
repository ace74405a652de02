"""Section 5.1 and Appendix C.1: goodness of fit of the samplers (Figures 1, 4, 9, 10)."""
