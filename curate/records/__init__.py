"""Raw records to turns: detection of prompt, answer, role and label fields, and their reading."""
