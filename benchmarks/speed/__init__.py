"""Speed: seconds of fits beside other tools, agreement of all ways to a posterior, and the page about them."""
