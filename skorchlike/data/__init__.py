"""Data: checked, put on the device, split, and cut into batches."""
