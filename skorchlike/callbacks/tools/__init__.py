"""Parts that callbacks are made of: none of them is a callback itself."""
