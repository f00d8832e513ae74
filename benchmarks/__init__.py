"""Each workload beside its peers and its physical limit, in one run on one machine: `scripts/bench`."""
