"""Parts that act on the latent: where colours lie in it, and regions of the picture."""
