"""Where a rollout's completions come from: the policy in this process, a server, a file."""
