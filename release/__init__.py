"""What is published: built, installed where there is no compiler, and looked at."""
