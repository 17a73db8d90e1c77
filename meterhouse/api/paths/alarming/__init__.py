"""The paths of Aodh: alarms, their states, history and quotas."""
