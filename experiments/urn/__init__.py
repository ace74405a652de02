"""The urn of Appendix B.5.1: recover unknown group weights from samples (Figures 7 and 8)."""
