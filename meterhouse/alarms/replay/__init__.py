"""Back-tests alarms: what they would have done over the past."""
