"""Parts that keep what blocks returned: when a span is run, and what stands in for it in between."""
