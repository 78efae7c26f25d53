"""One measured experiment per topic."""
