"""What is asked: statistics, samples, events, resources, SQL, reports."""
