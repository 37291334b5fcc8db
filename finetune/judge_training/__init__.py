"""Training of judges: classifiers of pairs and ratings, and judges that write reasons (Con-J)."""
