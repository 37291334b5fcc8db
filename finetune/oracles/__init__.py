"""What proves a loss right: contracts of each family, a finite bandit, optima, neighbours."""
