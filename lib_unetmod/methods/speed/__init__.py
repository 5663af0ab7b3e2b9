"""Methods that make a picture in less time."""
