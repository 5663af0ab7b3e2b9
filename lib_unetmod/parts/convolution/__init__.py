"""Parts that act on convolutions and norms by calls of the layer as it stands, without editing a weight."""
