"""The watch: series of a training run, sequential tests on them, alarms and what they do."""
