"""Speed of the VaDE's training beside a plain PyTorch loop, with several seeds at once, compiled, in half precision."""
