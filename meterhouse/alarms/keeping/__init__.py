"""The warehouse's alarms: who may create, change and see them, and their states."""
