"""One whole meta-step (adapt, outer backward, Adam) of ours and of others, timed side by side."""
