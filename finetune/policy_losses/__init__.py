"""What an update of the policy minimises, given advantages: one objective a file."""
