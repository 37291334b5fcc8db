"""One selector a file; each row gets a decision and a reason."""
