"""Programs that a model wrote, run as another user with limits on all that they may use."""
