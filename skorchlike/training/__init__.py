"""The staged loop: its table of stages, its context, its actions and the loop itself."""
