"""Where the tasks of recording and evaluation run: here, in processes, or where a plugin says."""
