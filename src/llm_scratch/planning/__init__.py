"""Planning: what a run will take, and settings chosen for a text, a machine and a stated time."""
