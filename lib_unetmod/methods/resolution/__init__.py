"""Methods for pictures larger than the model was trained at."""
