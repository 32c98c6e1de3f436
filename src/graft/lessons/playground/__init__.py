"""Small experiments that show, in pictures, what the lectures tell about training."""
