"""How child processes start, and one function in a process with limits."""
