"""Decisions: go or no-go, recipes, pilots and stopping, scored by what they lost, and the page about them."""
