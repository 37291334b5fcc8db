"""Commands beside the trainers: make a small model, evaluate one, sample answers from one."""
