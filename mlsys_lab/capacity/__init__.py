"""How much, how long, how many: capacity."""
