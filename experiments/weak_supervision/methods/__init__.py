"""The methods, a file each: how each of them says which latents of a pair are independent.

A new one is a file here, one in configs/method, and its name in words in ``OURS``, without which it is shown as it is.
"""

BASELINES = {"label_vae": "LabelVAE", "ada_vae": "AdaVAE"}
PAPER_METHODS = BASELINES | {"hgvae": "HGVAE"}
OURS = {"posterior_hgvae": "PosteriorHGVAE"}
REFERENCES = {"fixed_k": "fixed k", "fixed_k_joint": "fixed k, joint bound"}  # k is given, the truth by default
METHODS = PAPER_METHODS | OURS | REFERENCES
