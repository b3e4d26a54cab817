"""Start of child processes, and one function in a process with limits."""
