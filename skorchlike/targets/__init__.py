"""What users give as labels, and the answers they get."""
