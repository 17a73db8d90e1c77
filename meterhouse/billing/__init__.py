"""Usage, rated: prices, lines, bills, closed months."""
