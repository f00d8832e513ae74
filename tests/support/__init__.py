"""What tests share: lakehouses of their own, records, oracles that share no code with the product."""
