"""A long short-term memory that forecasts returns and volatility."""
