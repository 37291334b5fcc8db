"""What proves a loss on pairs right: contracts, a finite bandit with known optima, neighbours."""
