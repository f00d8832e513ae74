"""The stage, not the lakehouse: a broker, a simulated market, the demo."""
