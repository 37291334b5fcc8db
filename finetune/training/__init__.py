"""Training loops on pairs and answers: policy, objective, options, new models."""
