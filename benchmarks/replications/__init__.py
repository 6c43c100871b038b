"""Replications: laws fitted to the data that they were published with, and the page about them."""
