"""Which network to choose: facts, the Pareto set, and the certificate that proves a pick."""
