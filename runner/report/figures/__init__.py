"""The figures of a report, one kind a file. Importing any of them imports matplotlib."""
