"""What an alarm is: its fields, its rule, and the files that define alarms."""
