"""How fast and how small: ratios of things measured side by side in one run. `make bench` prints them."""
