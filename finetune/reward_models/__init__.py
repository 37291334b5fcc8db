"""What is known of a trained reward model: its calibration, and the answers that it knows."""
