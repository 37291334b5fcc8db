"""Raw records to turns: which field is the prompt, the answer, the role, the label."""
