"""What the words mean. Imports nothing of ours."""
