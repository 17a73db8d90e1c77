"""What is answered: JSON, times, errors, links."""
