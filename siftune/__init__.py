"""Select the data that matters, train on it, and prove that it helped."""
