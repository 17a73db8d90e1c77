"""The quality rules, and the Great Expectations suite that is made from them."""
