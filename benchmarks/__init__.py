"""Scripts that print tables; results/ keeps what they printed, with machine, versions and commit."""

import os

# Threads of torch that wait for work would otherwise spin for a while and take the cores from the session that is
# timed next. Read by the OpenMP runtime when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
