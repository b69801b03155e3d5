"""Parameters: how they are said (routing) and what is built from them (components)."""
