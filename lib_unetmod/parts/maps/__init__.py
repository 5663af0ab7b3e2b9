"""Parts that act on feature maps: maps of other sizes, skip connections that fit them, and low frequencies."""
