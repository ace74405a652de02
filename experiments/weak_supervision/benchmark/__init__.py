"""Speed and memory of the training on image pairs: the methods beside each other and beside a plain PyTorch loop."""
