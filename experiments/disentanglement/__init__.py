"""The published disentanglement scores of the weakly supervised models (Figure 11)."""
