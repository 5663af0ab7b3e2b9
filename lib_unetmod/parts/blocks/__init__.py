"""Parts that act on whole blocks: spans that are left out, and rows that run along in every block's batch."""
