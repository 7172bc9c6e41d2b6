"""crosswire: exchange market data to arbitrage signals."""
