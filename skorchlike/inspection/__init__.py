"""Looking at an estimator or a callback from outside: explain, summary, check_callback."""
