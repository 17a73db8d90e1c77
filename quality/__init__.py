"""The quality rules, and the Great Expectations suites made from them."""
