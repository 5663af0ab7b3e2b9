"""Parts that act on the tokens of an attention: the map behind them, tiles and windows of it."""
