"""How a question reaches a judge: its text, the servers, pace, cost and the cache of answers."""
