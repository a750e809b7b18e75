"""A gated recurrent unit that forecasts returns and volatility."""
