"""Methods that merge the weights of several models into one: one method a file."""
